"""The folder where bslang keeps what it can make again, and whose code it runs when it reads it.

So nobody else may be able to put anything there: neither into the folder, nor in its place by way of a
folder or a link on the path to it. The whole path is checked before it is used, each part relative to
the one before, and each entry when it is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bslang.files import write_whole

_WAY = "which holds code to be run"
_OWNERS = hasattr(os, "getuid")
"""Whether the system says by owner and mode who may write to a file. On Windows the folder is in the
user's profile, and is taken as it is."""

_LINKS = 40
"""Links on one path, as many as Linux follows."""


def cache_dir() -> Path:
    """The folder of generated modules and built kernels, made on first use, readable by its owner only.

    BSLANG_CACHE_DIR names another than the user's cache directory. Raises OSError where it cannot
    be made.
    """
    named = os.environ.get("BSLANG_CACHE_DIR")
    if named:
        folder = Path(named).absolute()  # it stays where it is when the process goes elsewhere
    else:
        from platformdirs import user_cache_path

        try:
            folder = user_cache_path("bslang")
        except RuntimeError as error:  # its word for a user without a home
            raise FileNotFoundError(str(error)) from None
        if not folder.is_absolute():  # older versions leave `~`, which would be a folder's name
            raise FileNotFoundError("this user has no home directory")
    for part in (
        *reversed(folder.parents),
        folder,
    ):  # whatever the umask: none that others may write
        if not part.is_dir():
            part.mkdir(mode=0o700, exist_ok=True)
    return folder


def private_dir(*names: str) -> Path:
    """A folder of the cache for what is run when it is read, made on first use.

    Raises OSError where it cannot be made, or where others could put something into it, or something
    else in the place of it.
    """
    folder = cache_dir().joinpath(*names)
    for made in reversed([folder, *folder.parents][: len(names)]):
        made.mkdir(mode=0o700, exist_ok=True)
    if not _OWNERS:
        return folder
    status = _checked(folder)
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"others may write to {folder}, {_WAY}: remove what they have put there, and `chmod 700` it"
        )
    return folder


def read(file: Path) -> bytes | None:
    """The bytes of an entry; None where there is none that only this user can have written.

    An entry is a file of this user's, not a link, that others may not write to.
    """
    if not _OWNERS:
        try:
            return file.read_bytes()
        except OSError:
            return None
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        own = status.st_uid == os.getuid() and not status.st_mode & 0o022
        if not own or not stat.S_ISREG(status.st_mode):
            return None
        with open(handle, "rb", closefd=False) as opened:
            return opened.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write entries as `write_whole` does, such that `read` takes them whatever the umask. Raises OSError."""
    for name in files:
        if (folder / name).is_file() and read(folder / name) is None:
            (folder / name).unlink()  # it may hold the same bytes, which others may change
    write_whole(folder, files, mode=0o644)


def sealed(data: bytes) -> bytes:
    """Data with its digest behind it, by which `unsealed` knows it again."""
    return data + hashlib.sha256(data).digest()


def unsealed(file: Path) -> bytes | None:
    """The data of an entry that was written sealed; None where it is missing, cut short or changed.

    What the cache holds is run, and nobody would see that a bit of it is another: it is made again then.
    """
    whole = read(file)
    if whole is None:
        return None
    data = whole[:-_SEAL_BYTES]
    return data if sealed(data) == whole else None


_SEAL_BYTES = hashlib.sha256().digest_size


# ---- the path ----------------------------------------------------------------------------------------


def _checked(folder: Path) -> os.stat_result:
    """The status of a folder, no part of whose path another user can replace. Raises OSError.

    The path is walked as the system would: each part is opened relative to the one before, without
    following links, whose targets are walked in their place.
    """
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
    trusted = _trusted()
    here = os.open("/", flags)
    shown, links = Path("/"), 0
    try:
        ahead = [*reversed(folder.parts[1:])]
        status = os.fstat(here)
        while ahead:
            _check(shown, status, trusted, folder)
            name = ahead.pop()
            entry = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(entry.st_mode):
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
                _check(shown / name, entry, trusted, folder)
                target = Path(os.readlink(name, dir_fd=here))
                ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
                name = "/" if target.is_absolute() else "."
            else:
                shown = shown / name
            there = os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = there
            if name == "/":
                shown = Path("/")
            status = os.fstat(here)
        return status
    finally:
        os.close(here)


def _check(part: Path, status: os.stat_result, trusted: set[int], folder: Path) -> None:
    """Raise PermissionError if others can replace what is in a part of the path to a folder, or the part.

    In a folder with the sticky bit, such as /tmp, only the owner of an entry can.
    """
    advice = "set BSLANG_CACHE_DIR to a folder below your home directory"
    if status.st_uid not in trusted:
        raise PermissionError(
            f"{part} belongs to another user (uid {status.st_uid}), who may replace {folder}, {_WAY}: "
            f"{advice}"
        )
    if stat.S_ISLNK(status.st_mode):  # its own mode says nothing
        return
    open_to = status.st_mode & 0o022
    if open_to == 0o020 and _is_own_group(status.st_gid):
        return
    if open_to and not status.st_mode & stat.S_ISVTX:
        raise PermissionError(
            f"others may write to {part}, and so replace {folder}, {_WAY}: `chmod go-w` it, or {advice}"
        )


def _trusted() -> set[int]:
    """Whose folders a path may lead through: root's and this user's.

    In a user namespace, as of sandboxes, root's folders are shown as those of nobody.
    """
    trusted = {0, os.getuid()}
    with suppress(OSError, ValueError):
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        if mapped[:3] != ["0", "0", "4294967295"]:
            trusted.add(int(Path("/proc/sys/fs/overflowuid").read_text(encoding="ascii")))
    return trusted


def _is_own_group(group: int) -> bool:
    """Whether a group is this user's alone: of the user's name, with no other member."""
    import grp
    import pwd

    try:
        own, user = grp.getgrgid(group), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return own.gr_name == user.pw_name and not {*own.gr_mem} - {user.pw_name}
