"""Where the compiler meets the runtime: what is read and lowered how often, and what is left of layouts."""

from __future__ import annotations

import errno
import gc
import linecache
import sys
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

import bslang
from bslang import compiler, layouts
from bslang.call import Call
from bslang.codegen.shape import BLOCKS
from bslang.graph import lower
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.grid import Grid
from bslang.ir.pattern import Pattern
from bslang.runtime.plan import DevicePlan
from bslang.runtime.recent import Recent
from bslang.runtime.registry import LAYOUTS, Key, Registry
from bslang.schedule.schedule import Schedule

Q = torch.randn(1, 2, 40, 8)


def alive(*types: type) -> Counter[str]:
    """How many objects of some types there are."""
    gc.collect()
    return Counter(type(x).__name__ for x in gc.get_objects() if type(x) in types)


def test_hundreds_of_layouts_leave_nothing_behind() -> None:
    q = Q[:, :1, :16]
    kinds = (layouts.Layout, DevicePlan, Schedule, BlockGraph, layouts.Meaning)

    def use(number: int) -> None:
        made = bslang.compile(f"last({number}t)", block=8, target="torch")
        made(q, q, q)

    use(1)
    before, keys = alive(*kinds), set(LAYOUTS)
    modules, lines = set(sys.modules), set(linecache.cache)
    known = set(layouts._KNOWN)
    for number in range(2, 402):  # more than any table of recent ones holds
        use(number)
    assert alive(*kinds) == before
    assert set(LAYOUTS) == keys and set(layouts._KNOWN) == known
    assert not {name for name in set(sys.modules) - modules if "generated" in name}
    assert not {file for file in set(linecache.cache) - lines if "layout.py" in file}


def test_a_target_is_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody holds the layout of the target alone."""
    imported: list[str] = []
    import_file = layouts.import_file
    monkeypatch.setattr(
        layouts, "import_file", lambda *given: imported.append(given[1]) or import_file(*given)
    )
    layout = bslang.compile("last(3)", block=8, target=("triton", "torch"))
    for _ in range(2):
        gc.collect()
        layout(Q, Q, Q)
        layout.at_layer(1)(Q, Q, Q)
    assert len(imported) == 1
    assert layout.targets["triton"] is layout.at_layer(1).targets["triton"]
    assert len(imported) == 2
    assert "torch" in layout.targets and "cpu" not in layout.targets
    with pytest.raises(KeyError):
        layout.targets["cpu"]


def test_torch_takes_over_where_the_cache_can_no_longer_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = Q.double()  # which the cpu target does not take
    expected = bslang.compile("last(5)", block=8, target="torch")(x, x, x)
    layout = bslang.compile("last(5)", block=8)

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bslang.cache.write", full)
    assert torch.equal(layout(x, x, x), expected)


def test_layouts_of_other_targets_leave_nothing_behind() -> None:
    """Kernels of Triton know their module, and a module its layout: a circle, which is collected."""
    made = bslang.compile("last(3)", block=16)
    made(*(torch.randn(1, 1, 40, 8),) * 3)
    reference = weakref.ref(made)
    del made
    gc.collect()
    assert reference() is None


def test_a_layout_lives_as_long_as_its_backward_pass() -> None:
    q = Q.clone().requires_grad_()
    layout = bslang.compile("last(7t)", block=8, target="torch")
    out, key = layout(q, q, q), layout._key
    del layout
    gc.collect()
    assert key in LAYOUTS
    out.sum().backward()
    del out
    gc.collect()
    assert q.grad is not None and key not in LAYOUTS


def test_a_layout_in_use_is_the_same_object() -> None:
    made = bslang.compile("last(2)", block=8, target="torch")
    assert bslang.compile("last( 2 )", block=8, target="torch") is made
    assert bslang.compile("last(2)", block=16, target="torch") is not made
    assert bslang.compile("last(2)", block=8, target=("torch", "cpu")) is not made


def test_layers_share_what_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    import_file = layouts.import_file

    def counted(path: Path, name: str) -> object:
        imported.append(name)
        return import_file(path, name)

    monkeypatch.setattr(layouts, "import_file", counted)
    spec, padding = "last(3t)", torch.tensor([30])
    layers = [bslang.compile(spec, block=8, target="torch").at_layer(n) for n in range(3)]
    for layer in layers:
        layer(Q, Q, Q, key_padding=padding)
    assert len(imported) == 2  # with padding, and without
    assert len({id(layer._with_padding._plans) for layer in layers}) == 1
    assert len({id(layer._plans) for layer in layers}) == 1


def test_of_several_layouts_with_one_key_the_last_is_found() -> None:
    first = bslang.compile("last(2)", block=8, target="torch").at_layer(3)
    second = first.at_layer(3)
    assert first._key == second._key and LAYOUTS.find(first._key) is second
    key = first._key
    del second
    gc.collect()
    assert LAYOUTS.find(key) is first  # and no other is made


def test_a_registry_without_a_compiler_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"compile or import it first \(bslang.layouts is not"):
        Registry().find(str(Key("all", (8, 8), ("torch",), 0)))


@pytest.mark.parametrize(
    "key", [Key("last(2)", (8, 16), ("cpu", "torch"), 0), Key("a; b\n| c", (1, 1), ("torch",), 12)]
)
def test_keys_are_read_again(key: Key) -> None:
    assert Key.parse(str(key)) == key


# ---- how often -----------------------------------------------------------------------------------


class Counts:
    """Calls of the compiler's stages, the lowerings by length."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: Counter[Any] = Counter()
        for module in (compiler, layouts):
            for name in ("read", "Program"):
                self._count(monkeypatch, module, name)
        settled = lower._settled

        def lowering(pattern: Pattern, grid: Grid, known: Any) -> Any:
            if isinstance(known, lower._Known) and not known._decided:  # the first of a lowering
                self.found[f"lower {grid.k.stop}"] += 1
            return settled(pattern, grid, known)

        monkeypatch.setattr(lower, "_settled", lowering)

    def _count(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        function = getattr(module, name)

        def counted(*given: Any, **options: Any) -> Any:
            self.found[name] += 1
            return function(*given, **options)

        monkeypatch.setattr(module, name, counted)

    def take(self) -> dict[str, int]:
        """The counts since it was asked last."""
        found, self.found = dict(self.found), Counter()
        return found


def test_a_cold_compile_and_a_first_call_do_each_thing_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("BSLANG_VERIFY")  # the verifier reads the text again
    counts, q = Counts(monkeypatch), torch.randn(1, 2, 48, 16)
    spec = "window(3) | global(0, -1) | random(2, seed=5)"
    layout = bslang.compile(spec, block=16, target=("triton", "torch"))
    assert counts.take() == {"read": 1, "Program": 1}
    layout(q, q, q)
    assert counts.take() == {"lower 48": 1}
    assert layout.targets["triton"].name == "triton"  # only now: its kernels are generated
    assert counts.take() == {f"lower {blocks * 16}": 1 for blocks in BLOCKS}
    layout(q, q, q)
    layout.packed(q, q, q, [0, 48])
    layout.at_layer(2)(q, q, q)
    assert layout.graph(48) and counts.take().keys() == {"lower 48"}
    # Key padding is another pattern, and no text: its own tables are all that is new.
    padding = torch.tensor([40])
    layout(q, q, q, key_padding=padding)
    assert counts.take() == {"lower 48": 1}
    layout(q, q, q, key_padding=padding)
    assert counts.take() == {}
    # The next process reads the module that this one wrote.
    del layout
    gc.collect()
    bslang.compile(spec, block=16, target=("triton", "torch"))(q, q, q)
    assert counts.take() == {"read": 1, "Program": 1, "lower 48": 1}


def test_the_values_that_were_used_last_are_kept() -> None:
    kept: Recent[int] = Recent(2)
    made: list[int] = []

    def ask(key: int) -> int:
        return kept.get(key, lambda: made.append(key) or -key)  # type: ignore[func-returns-value]

    assert [ask(key) for key in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert made == [1, 2, 3, 2]  # 2 made room for 3
    assert kept.get(2, int, hold=True) == -2 and [ask(key) for key in (4, 5, 6, 2)][3] == -2
    assert made == [1, 2, 3, 2, 4, 5, 6]  # 2 is held


# ---- threads and other processes -------------------------------------------------------------------


def test_threads_that_compile_one_layout_get_one() -> None:
    for number in range(5):
        spec, start = f"last({number + 40}t)", Barrier(8)

        def make(_: int, spec: str = spec, start: Barrier = start) -> layouts.Layout:
            start.wait()
            return bslang.compile(spec, block=16, target=("triton", "torch"))

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, range(8)))
        assert len({id(layout) for layout in made}) == 1


def test_a_program_of_another_process_makes_its_layout_once() -> None:
    key = "block 8x8; last(77t); torch"
    assert key not in LAYOUTS
    assert LAYOUTS.find(key) is LAYOUTS.find(key)
    layouts.of_key.cache_clear()


def test_layouts_may_be_collected_while_others_are_added() -> None:
    """As when the reference to a layout is made: what is collected then is forgotten, and nothing else."""
    base = bslang.compile("last(5)", block=8, target="torch")
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            held = base.at_layer(7)
            held.__dict__["circle"] = held  # only the collector frees it
            held = base.at_layer(7)
            assert LAYOUTS.find(held._key) is held
    finally:
        gc.set_threshold(*threshold)


def test_numbers_that_an_old_program_lacks_have_their_defaults() -> None:
    tensors, numbers, about = Call(0.5, 3.0, "start").pack()
    assert vars(Call.unpack(tensors, numbers, about)) == vars(Call(0.5, 3.0, "start"))
    assert Call.unpack(tensors, numbers[:1], about).softcap == 0.0
