"""Rules as one torch operator in traced programs, where they run as they are, at any length."""

from __future__ import annotations

import inspect
from ast import literal_eval
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import torch

from bslang.layouts import Layout
from bslang.runtime.op import define
from bslang.runtime.registry import Key
from bslang.select.cells import Cells
from bslang.select.choice import lists_of, part_of
from bslang.select.patterns import Spec

_P = ParamSpec("_P")

_RULES: dict[str, Callable[..., torch.Tensor]] = {}
_PATTERNS = ("within", "force")


def rule(function: Callable[_P, torch.Tensor]) -> Callable[_P, torch.Tensor]:
    """A rule as users call it: without gradients, and as an operator where a program is traced."""
    name, arguments = function.__name__, tuple(inspect.signature(function).parameters)
    _RULES[name] = function

    @wraps(function)
    def call(*args: _P.args, **options: _P.kwargs) -> torch.Tensor:
        if torch.compiler.is_compiling():
            given: dict[str, Any] = dict(zip(arguments, args, strict=False))
            given.update(options)
            return _traced(name, given)
        with torch.no_grad():
            return function(*args, **options)

    return call


def _traced(rule: str, given: dict[str, Any]) -> torch.Tensor:
    """The call of the operator. Words and layouts are constants of the program; numbers need not be."""
    names: dict[str, list[str]] = {"tensors": [], "integers": [], "numbers": []}
    tensors, integers, numbers, words = [], [], [], []
    for name, value in given.items():
        if isinstance(value, torch.Tensor):
            names["tensors"].append(name)
            tensors.append(value.detach())
        elif isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
            names["integers"].append(name)
            integers.append(value)
        elif isinstance(value, float):
            names["numbers"].append(name)
            numbers.append(value)
        else:
            text = f"({value._key!r},)" if isinstance(value, Layout) else f"{value!r}"
            words.append(f"{name!r}: {text}")
    about = "{" + ", ".join(words) + "}"
    order = ";".join([" ".join(some) for some in names.values()])
    found: torch.Tensor = torch.ops.bslang.choose(rule, order, tensors, integers, numbers, about)
    return found


def _given(order: str, *values: Sequence[Any], words: str) -> dict[str, Any]:
    """The arguments of a rule, of those of the operator."""
    given = literal_eval(words)
    for names, some in zip(order.split(";"), values, strict=True):
        given.update(zip(names.split(), some, strict=True))
    for name in _PATTERNS:
        if isinstance(given.get(name), tuple):
            key = Key.parse(given[name][0])
            given[name] = Spec(key.spec, key.layer, key.block)
    return given  # type: ignore[no-any-return]  # a dict, as `_traced` writes it


def _choose(
    rule: str,
    order: str,
    tensors: Sequence[torch.Tensor],
    integers: Sequence[int],
    numbers: Sequence[float],
    words: str,
) -> torch.Tensor:
    """What a rule chooses. order: the names of tensors, integers and numbers; words: the other arguments."""
    with torch.no_grad():
        return _RULES[rule](**_given(order, tensors, integers, numbers, words=words))


def _choose_fake(
    rule: str,
    order: str,
    tensors: Sequence[torch.Tensor],
    integers: Sequence[int],
    numbers: Sequence[float],
    words: str,
) -> torch.Tensor:
    arguments = inspect.signature(_RULES[rule]).parameters.items()
    given = {name: argument.default for name, argument in arguments}
    given |= _given(order, tensors, integers, numbers, words=words)
    first = tensors[0]
    if "scores" in given:
        lengths, lists = (given["len_q"], given["len_k"]), first.shape[1]
        top, share = given.get("count"), None
    else:
        lengths = first.shape[2], tensors[1].shape[2]
        lists = lists_of(given["scope"], first.shape[1], tensors[1].shape[1])
        top, share = given.get("top"), given.get("share")
    cells = Cells(*lengths, given.get("rows", 1), given["cols"], given.get("align", "end"))
    if share is not None:
        top = part_of(cells.columns, share)
    shape = (first.shape[0], lists, cells.count)
    if top is None:
        return first.new_empty((*shape, cells.columns), dtype=torch.bool)
    return first.new_empty((*shape, _least(top, cells.columns)), dtype=torch.int32)


def _least(a: int, b: int) -> int:
    return torch.sym_min(a, b)  # type: ignore[no-any-return, no-untyped-call]  # min would be a guard


define("choose", _choose, _choose_fake)
