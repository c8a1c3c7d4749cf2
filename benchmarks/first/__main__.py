"""First contact with a GPU: in one run, what is right, what is broken, and how fast it is.

    python -m benchmarks.first FOLDER --prepare [--only TEXT ...]
    python -m benchmarks.first FOLDER.zip [--seconds 480] [--output FILE] [--on interpreter]

The first form, where there is no GPU, compiles what is to be measured and packs it; the second runs it, and
writes a line of JSON after each task. benchmarks/README.md says more.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.first.carried import Carried
    from benchmarks.first.steps import Step
    from benchmarks.first.where import Where
    from benchmarks.flexes import Flexes

BACKENDS = ("hopper", "ampere")
"""Those that an H100 or H200 has. Each is right first, and then timed; other calls take whichever suits."""

FLEX_PROCESSES = 8
RIGHT_PROCESSES = 4
FLEX_SECONDS = 200.0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="of layouts with their kernels, or packed")
    parser.add_argument("--prepare", action="store_true", help="compile what is measured")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="layouts with this in their name")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all of it")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: FOLDER/first.jsonl")
    parser.add_argument(
        "--on",
        choices=("cuda", "interpreter", "nothing"),
        default="cuda",
        help="Triton's interpreter, or a driver that launches nothing, try the program out: no figures",
    )
    options = parser.parse_args()
    if options.folder.suffix == ".zip" and not options.prepare:
        packed, options.folder = options.folder, options.folder.with_suffix("")
        shutil.unpack_archive(packed, options.folder)
    if find_spec("lark") is None:  # carried, too
        sys.path.insert(0, str((options.folder / "site").resolve()))
    if options.prepare:
        _prepare(options.folder, options.only)
    else:
        _run(options.folder, options.output, options.seconds, options.on, options.only)


def _chosen(layouts: Iterable[Carried], only: list[str] | None) -> list[Carried]:
    """Those of special cases and those that are asked for; all if nothing is."""
    from benchmarks.first.carried import SPECIAL

    kept = {each.name for each in SPECIAL}
    return [
        each
        for each in layouts
        if only is None or each.name in kept or any(text in each.name for text in only)
    ]


def _prepare(folder: Path, only: list[str] | None) -> None:
    from benchmarks.first.carried import prepare, wanted

    failed = prepare(folder, _chosen(wanted(), only))
    for each in failed:
        print(f"not compiled: {each}", file=sys.stderr)
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    packed = Path(shutil.make_archive(str(folder), "zip", folder))
    print(f"{packed}: {packed.stat().st_size / 2**20:.1f} MiB of {size / 2**20:.1f}")


def _run(
    folder: Path, output: Path | None, seconds: float, on: str, only: list[str] | None
) -> None:
    from benchmarks.first.carried import read
    from benchmarks.first.steps import Log, run
    from benchmarks.first.timed import compiling
    from benchmarks.first.where import CUDA, Where
    from benchmarks.workers import Workers

    if on == CUDA:
        import torch

        if not torch.cuda.is_available():
            sys.exit("error: no CUDA device here; `--on interpreter` tries the program out")
    try:
        layouts = _chosen(read(folder), only)
        log = Log(output or folder / "first.jsonl")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}; `--prepare` makes the folder")
    where = Where(on)
    counted: Counter[tuple[str, str]] = Counter()

    def say(record: dict[str, Any]) -> None:
        counted[record["step"], record["outcome"]] += 1
        why = record.get("wrong") or record.get("why") or ""
        print(f"{record['step']}, {record['task']}: {record['outcome']} {why}", flush=True)

    def workers(count: int, environment: Mapping[str, str]) -> Workers:
        return Workers(count, {**where.environment, **environment})

    with workers(FLEX_PROCESSES, {}) as pool:
        flexes = compiling(where, pool, FLEX_SECONDS)
        run(steps(where, folder, layouts, flexes), workers, log, say, seconds, where.patience)
    print("\n".join(f"{step}: {n} {outcome}" for (step, outcome), n in counted.items()))


def steps(where: Where, folder: Path, layouts: list[Carried], flexes: Flexes) -> list[Step]:
    """What is done, in order."""
    from benchmarks.first import decoding, right, special, timed
    from benchmarks.first.steps import Step, Task

    at = str(folder)
    dims = (128, 64) if where.device.type == "cuda" else (64,)
    return [
        Step("device", 20, lambda: [Task("rates", timed.about, (where,))]),
        Step(
            "right",
            150,
            lambda: [
                Task(f"{each.name}, dim {dim}", right.check, (where, at, each, dim), seconds=30)
                for dim in dims
                for each in layouts
                if dim in each.dims and "bf16" in each.dtypes
            ],
            RIGHT_PROCESSES if where.device.type == "cuda" else 2,
        ),
        Step("special", 65, lambda: special.tasks(where, at)),
        *(
            Step(
                f"back end {name}",
                20,
                lambda: timed.alone(where, at),
                environment={"BSLANG_BACKENDS": name},
            )
            for name in BACKENDS
        ),
        Step("decoding", 30, lambda: decoding.tasks(where, at)),
        Step("timed", 110, lambda: timed.tasks(where, at, flexes)),
        Step("tuned", 40, lambda: timed.tunings(where, at)),
        Step("host", 25, lambda: timed.hosts(where, at)),
    ]


if __name__ == "__main__":
    main()
