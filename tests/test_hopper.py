"""The kernels for Hopper on a simulated machine: results, and that every mistake in their waits is found."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from on_hopper import Launched, on_hopper, source_of
from pipeline import Fault, Kernels, Mistake
from reference import TOLERANCE, agrees, inputs, run
from strategies import Case
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia import hopper

import bslang

DATA = Path(__file__).parent / "data"

HALF, BRAIN = torch.float16, torch.bfloat16
BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"

# Each row: a program on a grid, then what its tensors are.
RUNS: list[tuple[Case, dict[str, Any]]] = [
    (Case("causal", (128, 128), 300, 300, "end"), {"dtype": HALF}),
    (Case(BIGBIRD, (64, 64), 520, 520, "end"), {"dtype": BRAIN, "heads": 2, "key_heads": 1}),
    (
        Case("causal", (128, 64), 132, 330, "end"),
        {"dtype": HALF, "dim": 24, "value_dim": 72, "heads": 4, "key_heads": 2},
    ),
    (Case("every(4t, offset=head * 1t)", (64, 64), 100, 200, "end"), {"dtype": HALF}),
    (Case("all", (64, 64), 100, 300, "end"), {"dtype": BRAIN, "dim": 128, "heads": 1}),
    (Case("last(70t) | cols(:4t)", (64, 64), 200, 200, "end"), {"dtype": HALF, "batch": 2}),
    (Case("rows(20t:40t) - cols(3t)", (64, 128), 92, 140, "start"), {"dtype": BRAIN}),
    (Case("none", (64, 64), 72, 90, "end"), {"dtype": HALF, "heads": 1}),
]


def layout(case: Case) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target="triton", folder=case.folder)


@pytest.mark.parametrize(("case", "options"), RUNS, ids=lambda x: str(getattr(x, "spec", "")))
def test_results(case: Case, options: dict[str, Any]) -> None:
    """Forward and all gradients agree with dense attention, and nothing is wrong on the way."""
    made = layout(case)
    tensors = inputs(case.len_q, case.len_k, **{"dim": 64, "heads": 2, **options})
    masks = case.masks(tensors.q.shape[1])
    with on_hopper(made, seed=len(case.spec)) as simulated:
        agrees(made, tensors, masks, TOLERANCE[tensors.q.dtype], align=case.align)
        kernels = {each.kernel for each in simulated.launched}
    assert kernels >= {"forward_hopper", "dq_hopper", "dkdv_hopper"}


def test_names_of_gluon_are_in_every_triton() -> None:
    """Those that kernels write are in Triton 3.6, whose names tests/data lists, and in the installed one."""
    source = source_of(layout(Case("causal", (64, 64), 64, 64, "end")))
    oldest = set((DATA / "gluon_3.6.txt").read_text().split())
    modules = {"gl": gl, "mbarrier": hopper.mbarrier}
    for module, prefix in (("gl", "gl"), ("mbarrier", "hopper.mbarrier")):
        names = set(re.findall(rf"\b{module}\.(\w+)", source))
        assert len(names) > 3
        assert {name for name in names if f"{prefix}.{name}" not in oldest} == set()
        assert {name for name in names if not hasattr(modules[module], name)} == set()


# ---- mistakes --------------------------------------------------------------------------------


HARMLESS = {"dv_acc = warpgroup_mma_wait(1, deps=[dv_acc])"}
"""Where only the compiler needs a wait. The next wait retires the product, too, and before the buffer of `do`
that it reads is filled again, the producer waits for that of q, which is freed after that wait."""


class Watched:
    """A launch of which one program at a time is run again, with mistakes."""

    def __init__(self, source: str, launched: Launched) -> None:
        self.kernels, self.launched, self.source = Kernels(source), launched, source.splitlines()
        launched.given["STAGES"] = 2  # so that few tiles go round the ring
        alone = {number: self._alone(source, number) for number in range(launched.programs)}
        # Of the programs that come by a place, the one that does most shows a mistake there.
        self.program: dict[Mistake, int] = {}
        for number in sorted(alone, key=lambda each: alone[each].total()):
            self.program |= dict.fromkeys(alone[number], number)
        self.right = {number: self.result(number) for number in set(self.program.values())}

    def _alone(self, source: str, number: int) -> Counter[Mistake]:
        kernels = Kernels(source)
        self.launched.run(kernels, only=[number])
        return Counter(kernels.mistakes())

    def result(self, number: int, **options: Any) -> list[torch.Tensor]:
        results = [each.detach() for each in self.launched.results.values()]
        for each in results:
            each.fill_(torch.nan)
        self.launched.run(self.kernels, only=[number], **options)
        return [each.clone() for each in results]

    def line(self, mistake: Mistake) -> str:
        return self.source[mistake.site.lines[-1][1] - 1].strip()

    def finds(self, mistake: Mistake) -> bool:
        number = self.program[mistake]
        for seed in range(4):
            try:
                found = self.result(number, seed=seed, mistake=mistake)
            except Fault:
                return True
            same = zip(found, self.right[number], strict=True)
            if not all(torch.equal(x.nan_to_num(7), y.nan_to_num(7)) for x, y in same):
                return True
        return False


@pytest.mark.parametrize(
    ("case", "options"),
    [
        (Case("causal", (128, 128), 420, 420, "end"), {"heads": 1}),
        (Case("all", (64, 64), 220, 290, "end"), {"heads": 2, "key_heads": 1}),
    ],
    ids=lambda x: str(getattr(x, "spec", "")),
)
def test_every_mistake_is_found(case: Case, options: dict[str, Any]) -> None:
    """A wait, an arrival, a copy left out or done wrongly, in any place, is a fault or a wrong result."""
    made = layout(case)
    tensors = inputs(case.len_q, case.len_k, dtype=HALF, dim=64, **options)
    with on_hopper(made) as simulated:
        run(made, tensors, align=case.align)
        launches = simulated.launched
    source = source_of(made)
    for launched in launches:
        if launched.kernel.endswith("_hopper"):
            watched = Watched(source, launched)
            assert len(watched.program) > 25, launched.kernel
            unfound = [each for each in watched.program if not watched.finds(each)]
            harmful = [each for each in unfound if watched.line(each) not in HARMLESS]
            assert harmful == [], "\n".join(map(str, harmful))
