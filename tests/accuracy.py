"""The largest error of every target and dtype against dense fp64 attention, over random programs.

    python tests/accuracy.py [--programs N]      # what `make accuracy` runs; prints a Markdown table

Beside each figure stands that of dense attention computed in the same dtype: the error that rounding
of that dtype brings by itself. The triton target runs in Triton's interpreter, on small shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict

import torch
from hypothesis import HealthCheck, Phase, given, settings
from reference import Inputs, dense, inputs, run
from strategies import Case, cases

import bslang

NAMES = ("out", "lse", "dq", "dk", "dv")
DTYPES = {
    "cpu": ("float32", "bfloat16", "float16"),
    "triton": ("float32", "float16"),  # the interpreter multiplies the bits of bf16 as integers
    "torch": ("float64", "float32", "bfloat16", "float16"),
}


def measure(target: str, programs: int) -> dict[str, object]:
    """The largest errors of one target, by dtype: its own, and those of dense attention."""
    worst: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    count = 0
    small = target == "triton"

    @settings(
        max_examples=programs,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        cases(blocks=((16, 16), (8, 8), (16, 32), (5, 3)), longest=40 if small else 150, terms=4)
    )
    def one(case: Case) -> None:
        nonlocal count
        if not case.has_meaning():
            return
        count += 1
        layout = bslang.compile(case.spec, block=case.block, target=target)
        for name in DTYPES[target]:
            dtype = getattr(torch, name)
            given = inputs(
                case.len_q, case.len_k, dim=16 if small else 32, heads=4, key_heads=2, dtype=dtype
            )
            truth = dense(given, case.mask())
            for source, found in (
                ("ours", run(layout, given, align=case.align)),
                ("dense", dense(_in(given, dtype), case.mask(), dtype=dtype)),
            ):
                for part, error in found.error(truth).items():
                    key = f"{name} {source}"
                    worst[key][part] = max(worst[key][part], error)

    one()
    return {"programs": count, "worst": worst}


def _in(given: Inputs, dtype: torch.dtype) -> Inputs:
    """The same inputs with the gradient of lse in their own dtype, as plain autograd has it."""
    return Inputs(given.q, given.k, given.v, given.grad_out, given.grad_lse.to(dtype))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=DTYPES)
    parser.add_argument("--programs", type=int, default=200)
    options = parser.parse_args()
    if options.target:
        print(json.dumps(measure(options.target, options.programs)))
        return
    print(f"| target | dtype | programs | {' | '.join(NAMES)} |")
    print(f"|---|---|---|{'---|' * len(NAMES)}")
    for target, dtypes in DTYPES.items():
        # The interpreter is chosen when Triton is imported, so each target has a process of its own.
        programs = max(1, options.programs // 4) if target == "triton" else options.programs
        done = subprocess.run(
            [sys.executable, __file__, "--target", target, "--programs", str(programs)],
            env=os.environ | {"TRITON_INTERPRET": "1" if target == "triton" else "0"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        for dtype in dtypes:
            ours, plain = found["worst"][f"{dtype} ours"], found["worst"][f"{dtype} dense"]
            cells = " | ".join(f"{ours[n]:.1e} ({plain[n]:.1e})" for n in NAMES)
            print(f"| {target} | {dtype} | {found['programs']} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
