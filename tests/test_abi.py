"""The kernels' arguments as data: what reads them follows, and no other module is run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from bslang import abi, abi_structs, call, compiler
from bslang.abi import ABI, HOPPER, Abi
from bslang.abi_structs import Group
from bslang.codegen import cpu as code
from bslang.errors import BslangError, TargetError
from bslang.generated import import_file
from bslang.resources import resource
from bslang.runtime.cpu.launch import CpuTarget
from bslang.runtime.triton.arguments import in_order
from bslang.syntax.source import Source

OLDER = Path(__file__).parent / "data" / "older"
"""What a bslang without digests generated for `all`, with blocks of 64."""


def swapped(group: Group, one: str, other: str) -> Group:
    places = {argument.name: place for place, argument in enumerate(group)}
    made = list(group)
    made[places[one]], made[places[other]] = group[places[other]], group[places[one]]
    assert tuple(made) != group
    return tuple(made)


def kernel(name: str, **changes: object) -> Abi:
    changed = replace(ABI.kernels[name], **changes)  # type: ignore[arg-type]
    return replace(ABI, kernels={**ABI.kernels, name: changed})


def struct(name: str, made: Group) -> Abi:
    return replace(ABI, structs={**ABI.structs, name: made})


def columns(table: str, *names: str) -> Abi:
    return replace(ABI, columns={**ABI.columns, table: names})


def wider(group: Group) -> Group:
    return (replace(group[0], type="i64"), *group[1:])


FORWARD, ARGUMENTS = ABI.kernels["forward"], ABI.structs["Arguments"]
SWAPPED = kernel("forward", sizes=swapped(FORWARD.sizes, "heads", "key_heads"))

CHANGES = {
    "two sizes of a kernel swapped": SWAPPED,
    "two tensors swapped": kernel("dkdv", tensors=swapped(ABI.kernels["dkdv"].tensors, "dk", "dv")),
    "two tables swapped": kernel("dq", tables=swapped(FORWARD.tables, "pointer", "runs")),
    "a type": kernel("merge", sizes=wider(ABI.kernels["merge"].sizes)),
    "a name": kernel("delta", function="_rows"),
    "an argument less": kernel("sum", sizes=ABI.kernels["sum"].sizes[1:]),
    "an argument for some layouts only": kernel(
        "forward", tables=(replace(FORWARD.tables[0], only="heads"), *FORWARD.tables[1:])
    ),
    "a kernel less": replace(
        ABI, kernels={name: each for name, each in ABI.kernels.items() if name != "sum"}
    ),
    "two columns swapped": columns("program", "block", "high", "low", "slot"),
    "a column more": columns("run", "begin", "end", "step"),
    "two classes swapped": replace(ABI, classes=("edge", "full", "partial")),
    "two fields of the struct swapped": struct(
        "Arguments", swapped(ARGUMENTS, "heads", "key_heads")
    ),
    "a type of a field": struct("Tensor", wider(ABI.structs["Tensor"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows_in_the_digest(change: str) -> None:
    assert CHANGES[change].digest() != abi.digest()


def test_digests_differ_from_one_another_and_stay() -> None:
    assert len({changed.digest() for changed in CHANGES.values()}) == len(CHANGES)
    assert re.fullmatch("[0-9a-f]{15}", abi.digest()) and ABI.digest() == replace(ABI).digest()
    assert {field.name for field in fields(Abi)} == {"kernels", "columns", "classes", "structs"}


# ---- what reads it -------------------------------------------------------------------------------


def test_a_number_of_a_call_is_an_argument_of_every_walk() -> None:
    for name in ("forward", "dq", "dkdv"):
        options = {argument.name.lower() for argument in ABI.kernels[name].options}
        assert options == set(call.NUMBERS)
    assert set(call.NUMBERS) <= {field.name for field in ARGUMENTS}


def test_the_header_declares_it() -> None:
    header = resource("runtime", "cpu", "include", "arguments.h").read_text(encoding="utf-8")
    between = header.partition(abi_structs.BEGIN)[2].partition(abi_structs.END)[0]
    assert between == abi_structs.declarations(abi.digest()), "run docs/generate.py"
    assert between in code.header()


def emitted(spec: str, block: int = 16) -> str:
    resolved = compiler.resolve(Source("layout.bsl", spec), block=block)
    return str(compiler.emit(resolved, ["triton"])["layout.py"])


def signature(text: str, function: str) -> list[str]:
    """The arguments of a kernel that are no constants, in order."""
    inside = text.partition(f"\ndef {function}(\n")[2].partition("\n):")[0]
    arguments = [each.strip() for each in inside.split(",") if each.strip()]
    return [each for each in arguments if not each.endswith(": tl.constexpr")]


SPECS = [
    "window(3)",
    "same(doc)",
    "last(head + 1)",
    "same(doc) & last(head * 3t + 9t)",
    "select(pick)",
    "order tiles(8, 8; 4, 4)\ngrid(8t, 8t, radius=2)",
]


@pytest.mark.parametrize("spec", SPECS)
def test_launches_give_what_signatures_name(spec: str) -> None:
    text = emitted(spec, 64)
    has = {"": True, "heads": "head" in spec, "labels": "doc" in spec, "selections": "pick" in spec}
    has |= {"order": "order" in spec, "spans": "doc" in spec or "pick" in spec}
    has["hopper"] = not has["spans"]
    for name, each in ABI.kernels.items():
        if not has[each.only]:
            assert each.function not in text
            continue
        values = {x.name: x.name if has.get(x.only, True) else None for x in each.all}
        constants = {x.name: 64 for x in each.constants}
        if not name.endswith(HOPPER) or has["hopper"]:
            assert list(in_order(name, values, constants)) == signature(text, each.function)


def test_calls_give_none_for_what_they_lack() -> None:
    for name, each in ABI.kernels.items():
        values = {x.name: x.name for x in each.all}
        plain = {x.name: 0 for x in each.constants}
        for has in ({}, {"K_PAGE": 16}, {"IN_ORDER": 1}, {"IN_ORDER": 1, "LENGTHS": 1}):
            found = [x for x in in_order(name, values, plain | has) if x is not None]
            present = {x.name for x in each.all if x.only not in abi.OF_CALLS}
            present |= {x.name for x in each.all if x.only in has}
            assert set(found) == {x.name for x in each.all if not x.is_constant} & present


def test_signatures_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "KERNELS", SWAPPED.kernels)
    text = emitted("window(3)")
    order = signature(text, "_forward")
    assert order.index("key_heads") < order.index("heads")
    order = signature(text, "_backward_dq")
    assert order.index("heads") < order.index("key_heads")


# ---- modules of another abi ----------------------------------------------------------------------


def message(version: str) -> str:
    of = f"was generated by bslang {version}( in another state)?"
    return f"{of}, and bslang .* cannot run it: compile its spec again"


def test_an_older_module_is_refused(tmp_path: Path) -> None:
    for name in ("older.py", "older.cpp"):
        shutil.copy(OLDER / f"{name}.txt", tmp_path / name)
    with pytest.raises(BslangError, match=f"module an_older_module {message('0.1.0')}"):
        import_file(tmp_path / "older.py", "an_older_module")


@pytest.mark.parametrize("change", CHANGES)
def test_a_module_of_another_abi_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the interface and the version as they are: `heads` and `key_heads` swapped in signature and
    launcher would read memory that is not theirs."""
    with monkeypatch.context() as patch:
        patch.setattr(abi, "ABI", CHANGES[change])
        (tmp_path / "other.py").write_text(emitted("window(3)"), encoding="utf-8")
    with pytest.raises(BslangError, match=f"module of_another_abi {message('0.1.0')}"):
        import_file(tmp_path / "other.py", "of_another_abi")


def test_a_module_of_this_abi_is_not(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(emitted("window(3)"), encoding="utf-8")
    assert import_file(tmp_path / "own.py", "of_this_abi").LAYOUT.spec == "window(3)"


def forward(target: CpuTarget, run: Callable[[CpuTarget], object]) -> None:
    with pytest.raises(TargetError, match="generated by another version of bslang; compile"):
        run(target)


def attention(target: CpuTarget) -> object:
    from bslang.call import Call
    from bslang.layouts import layout_of

    layout = layout_of(compiler.resolve(Source("layout.bsl", "all"), block=64))
    q = torch.zeros(1, 2, 70, 8)
    return target.forward(q, q, q, layout._plan(70, 70, "end", q.device), Call(1.0))


def test_older_kernels_are_refused() -> None:
    """Their struct begins with its size, where today's has the digest."""
    target = CpuTarget((OLDER / "older.cpp.txt").read_text(encoding="utf-8"))
    forward(target, attention)


def test_kernels_of_another_abi_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bslang.runtime.cpu.arguments._ABI", int(SWAPPED.digest(), 16))
    resolved = compiler.resolve(Source("layout.bsl", "all"), block=64)
    files = compiler.emit(resolved, ["cpu"])
    from bslang.files import HEADER, inlined

    source = inlined(str(files["layout.cpp"]), {HEADER: str(files[HEADER])})
    forward(CpuTarget(source), attention)
