"""The errors of every target and dtype against dense fp64 attention, over random programs.

    python tests/accuracy.py [--programs N]      # what `make accuracy` runs; prints a Markdown table

The error of one program is the largest difference over the largest number, for the output, the
log-sum-exp and each gradient. The figure is the root of its mean square over programs. Beside it
stands that of dense attention computed in the same dtype: the error that rounding brings by itself.
The triton target runs in Triton's interpreter, on small shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reference import dense, inputs, run
from strategies import Case, cases

import bslang
from bslang.verify.reference import rounding
from bslang.verify.report import PARTS, Call, Errors

DTYPES = {
    "cpu": ("float32", "bfloat16", "float16"),
    "triton": ("float32", "float16"),  # the interpreter multiplies the bits of bf16 as integers
    "torch": ("float64", "float32", "bfloat16", "float16"),
}
HEADS = 4


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous()


def _as_projected(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _in_wider_rows(x: torch.Tensor) -> torch.Tensor:
    wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), torch.nan)
    wide[..., : x.shape[-1]] = x
    return wide[..., : x.shape[-1]]


Strided = Callable[[torch.Tensor], torch.Tensor]
STRIDES: tuple[Strided, ...] = (_dense, _as_projected, _in_wider_rows)


def measure(target: str, dtype: torch.dtype, programs: int) -> Errors:
    """Errors over about that many random programs, head dimensions, strides and numbers of key heads."""
    errors = Errors()
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
        cases(blocks=((16, 16), (8, 8), (16, 32), (5, 3)), longest=40 if small else 150, terms=4),
        st.sampled_from((16, 24) if small else (8, 24, 32, 64)),
        st.sampled_from((1, 2, HEADS)),
        st.sampled_from(STRIDES),
        st.integers(0, 1000),
    )
    def one(case: Case, dim: int, key_heads: int, strided: Strided, seed: int) -> None:
        if not case.has_meaning(HEADS):
            return
        given = inputs(
            case.len_q, case.len_k,
            dim=dim, heads=HEADS, key_heads=key_heads, dtype=dtype, seed=seed,
        )  # fmt: skip
        given = replace(given, **{name: strided(getattr(given, name)) for name in "qkv"})
        masks = case.masks(HEADS)
        layout = bslang.compile(case.spec, block=case.block, target=target, folder=case.folder)
        truth = dense(given, masks)
        ours = run(layout, given, align=case.align).relative(truth)
        errors.calls.append(Call(case.spec, ours, rounding(given, masks, truth)))

    one()
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", nargs=2, metavar=("TARGET", "DTYPE"), help="as JSON, this one")
    parser.add_argument("--programs", type=int, default=200)
    options = parser.parse_args()
    if options.of:
        found = measure(options.of[0], getattr(torch, options.of[1]), options.programs)
        cells = [found.mean(part) for part in PARTS]
        print(json.dumps([len(found.calls), *cells]))
        return
    print(f"| target | dtype | programs | {' | '.join(PARTS)} |")
    print(f"|---|---|---|{'---|' * len(PARTS)}")
    for target, dtypes in DTYPES.items():
        programs = max(1, options.programs // 4) if target == "triton" else options.programs
        for dtype in dtypes:
            # The interpreter is chosen when Triton is imported, so each has a process of its own.
            done = subprocess.run(
                [sys.executable, __file__, "--of", target, dtype, "--programs", str(programs)],
                env=os.environ | {"TRITON_INTERPRET": "1" if target == "triton" else "0"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            count, *found = json.loads(done.stdout)
            cells = " | ".join(f"{ours:.1e} ({plain:.1e})" for ours, plain in found)
            print(f"| {target} | {dtype} | {count} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
