"""Fuzzing: whatever a file says, it is compiled or refused, in bounded time. `make fuzz` runs this.

Half of the inputs are programs drawn from the whole grammar (writer.py), half are such programs with
bytes or words changed, or bytes alone. Each is read, checked, picked by every name that it defines,
and lowered; where it parses it is formatted too, twice. Failures are an exception other than SpecError
and LimitError, a formatted or canonical text that means something else, and an input that takes
SECONDS of processor time: the input is kept, and a line says how to run it again.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from types import FrameType
from typing import Annotated

import numpy as np
import typer
from writer import Writer

from bslang import compiler
from bslang.errors import LimitError
from bslang.resolve.program import Program
from bslang.resolve.sources import source_from
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.format import meaning, text_of
from bslang.syntax.reader import read
from bslang.syntax.source import Source

SECONDS = 2.0
"""Processor time that an input may take."""

MEMORY = 8 * 2**30
"""Address space that a process may take, in bytes."""

LENGTH = 200
"""Tokens of the sequence that layouts are lowered at."""

BATCH = 500
"""Inputs that a worker takes at a time."""

FAILURES = Path("build/fuzz")

_PIECES = (
    *"()[]{}|&^~-+*/%<>=!,.:;#@\"' \n\t\r0123456789tx_nT\\`$?é\0\x1b\u202e\ufeff",
    *("window(3)", "causal", "all", "a = ", "f(x) = ", "f(", "64t", "128x64", "block 64\n", ".T"),
    "order tiles(10, 20; 4, 8)\n",
    *("**", "//", "->", "<=", "heads {", "{i, j : ", 'import "common.bsl"', " as c", 'table("'),
    *("inf", "true", "9" * 50, "# ", "\r\n", "{{ 7*7 }}", "{% raw %}", "c.", "same(doc)"),
)


class TooSlow(BaseException):
    """An input has had its time. No `except Exception` may catch it."""


@dataclass
class Totals:
    """What a run came to."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)

    def add(self, other: Totals) -> None:
        self.inputs += other.inputs
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)


# ---- inputs --------------------------------------------------------------------------------------


def written(seed: int, index: int) -> bytes:
    """The input of a number: the same one for the same seed, everywhere."""
    random = Random(f"{seed}:{index}")
    text = Writer(random).program()
    if index % 2 == 0:
        return text.encode()
    if random.random() < 0.05:
        return random.randbytes(random.choice((1, 5, 30, 200)))
    return mutated(text, random)


def mutated(text: str, random: Random) -> bytes:
    """A program with a few changes of its characters, and now and then of its bytes."""
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        start = random.randint(0, len(text))
        stop = min(len(text), start + random.choice((0, 0, 1, 1, 3, 20)))
        put = random.choice(
            ("", random.choice(_PIECES), text[start:stop] * 2, _spliced(text, random))
        )
        text = text[:start] + put + text[stop:]
    data = bytearray(text.encode())
    if data and random.random() < 0.15:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _spliced(text: str, random: Random) -> str:
    start = random.randint(0, len(text))
    return text[start : start + random.choice((1, 5, 40))]


def surroundings(folder: Path) -> None:
    """The files that programs name: some good, some in a circle, some broken."""
    (folder / "common.bsl").write_text("near(w = 3) = last(w)\nsinks = cols(0)\n_own = all\n")
    (folder / "loop.bsl").write_text('import "loop.bsl"\nimport "other.bsl" as o\nloop = o.other\n')
    (folder / "other.bsl").write_text('import "loop.bsl"\nother = loop\n')
    (folder / "broken.bsl").write_text("near = window(\nfar = windw(3)\n")
    matrix = np.eye(4, dtype=bool)
    np.save(folder / "mask.npy", matrix)
    np.save(folder / "object.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    saved = (folder / "mask.npy").read_bytes()
    (folder / "short.npy").write_bytes(saved[:-3])
    huge = "(99999999999, 99999999999), }"
    end = saved.index(b"(4, 4)")
    (folder / "huge.npy").write_bytes(saved[:end] + huge.encode() + saved[end + len(huge) :])


# ---- one input -----------------------------------------------------------------------------------


def outcome(data: bytes, folder: Path) -> str:
    """How far an input gets: the code of its first error, `limit`, or `accepted`."""
    try:
        source = source_from("fuzz.bsl", io.BytesIO(data), folder)
        file = read(source)
        if not file.errors:
            text = text_of(file)
            after = read(Source(source.name, text))
            assert not after.errors, f"the formatted text has mistakes:\n{text}"
            assert meaning(after.statements) == meaning(file.statements), f"means another:\n{text}"
            assert text_of(after) == text, f"formatting goes on:\n{text}"
        program = Program(file)
        errors = []
        for name in chain(program.names, [None] if program.layout else []):
            try:
                found = program.pick(name, "fuzz", {})
                text = found.spec
                if "table(" not in text:  # the content of one is no text
                    again = compiler.resolve(Source("<text>", text), block=found.block)
                    same = (again.pattern, again.order) == (found.pattern, found.order)
                    assert same, f"canonical text means another: {text}"
                compiler.lower(found, LENGTH, LENGTH)
            except SpecError as error:
                errors.append(error)
        if errors:
            raise errors[0]
    except SpecError as error:
        assert str(error)
        return error.diagnostics[0].code
    except LimitError:
        return "limit"
    return "accepted"


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises TooSlow in the block when it has used so much processor time."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooSlow(f"takes more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attempt(data: bytes, folder: Path) -> tuple[str, str]:
    """The outcome of an input, and what is wrong with bslang if anything is."""
    try:
        with alarm(SECONDS):
            return outcome(data, folder), ""
    except (Exception, TooSlow) as error:
        place = _place(error)
        return "failure", f"{type(error).__name__}: {str(error)[:300]} ({place})"


def _place(error: BaseException) -> str:
    """The line of bslang's (or here) that an exception came through last."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "bslang" in code.co_filename or code.co_filename == __file__:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def batch(seed: int, start: int, stop: int) -> Totals:
    """The inputs of some numbers, one after another."""
    totals = Totals()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        surroundings(folder)
        for index in range(start, stop):
            data = written(seed, index)
            begun = time.process_time()
            kind, problem = attempt(data, folder)
            totals.slowest = max(totals.slowest, (time.process_time() - begun, index))
            totals.inputs += 1
            totals.outcomes[kind] += 1
            if problem:
                FAILURES.mkdir(parents=True, exist_ok=True)
                kept = FAILURES / f"{seed}-{index}.bsl"
                kept.write_bytes(data)
                totals.failures.append(f"{problem}\n    again: python tests/fuzz.py --file {kept}")
    return totals


# ---- many ----------------------------------------------------------------------------------------


def _begin() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batch(job: tuple[int, int, int]) -> Totals:
    return batch(*job)


def main(
    inputs: Annotated[int, typer.Option(help="How many.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Another seed, other inputs.")] = 0,
    first: Annotated[int, typer.Option(help="The number of the first.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; one a core by default.")] = 0,
    file: Annotated[Path | None, typer.Option(help="Run this input alone, with traceback.")] = None,
) -> None:
    """Feed random programs and broken ones to the compiler."""
    if file is not None:
        with tempfile.TemporaryDirectory() as name, alarm(SECONDS):
            surroundings(Path(name))
            print(outcome(file.read_bytes(), Path(name)))
        return
    totals = Totals()
    begun = time.monotonic()
    stop = first + inputs
    jobs = [(seed, start, min(start + BATCH, stop)) for start in range(first, stop, BATCH)]
    with multiprocessing.Pool(workers or os.cpu_count(), _begin) as pool:
        for done, found in enumerate(pool.imap_unordered(_batch, jobs), 1):
            totals.add(found)
            for failure in found.failures:
                print(failure, flush=True)
            if done % 100 == 0:
                rate = totals.inputs / (time.monotonic() - begun)
                print(f"{totals.inputs:,} inputs, {rate:,.0f} a second", file=sys.stderr)
    _report(totals, time.monotonic() - begun)
    sys.exit(1 if totals.failures else 0)


def _report(totals: Totals, seconds: float) -> None:
    slowest, index = totals.slowest
    print(f"{totals.inputs:,} inputs in {seconds:,.0f} s; {len(totals.failures)} failures")
    print(f"slowest: number {index}, {slowest:.2f} s of processor time")
    for kind, count in totals.outcomes.most_common():
        print(f"{count:10,}  {kind}")


if __name__ == "__main__":
    typer.run(main)
