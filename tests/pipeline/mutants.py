"""Kernels with one mistake each in how they wait: what a simulator of pipelines must find."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy

REMOVED = {
    "arrive",
    "async_load",
    "async_store",
    "expect",
    "fence_async_shared",
    "init",
    "store_wait",
    "wait",
    "warpgroup_mma_wait",
}
"""Calls that no kernel has in vain."""

ONE = ast.Constant(1)


def mutants(source: str, aliases: dict[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """What was changed, and the changed source, for each mistake; aliases: other names of the calls."""
    tree = ast.parse(source)
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("gluon.jit" in ast.unparse(each) for each in node.decorator_list)
    ]
    for function in functions:
        for body, i in list(_statements(function)):
            old = body[i]
            call = getattr(old, "value", None)
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func).rpartition(".")[2]
            name = (aliases or {}).get(name, name)
            if name not in REMOVED:
                continue
            for what, new in _changed(name, old, call):
                body[i] = new
                yield f"{function.name}, line {old.lineno}: {what}", ast.unparse(tree)
            body[i] = old
            before = _wait_before(body, i) if name == "arrive" else None
            if before is not None:
                body.insert(before, body.pop(i))
                where = f"{function.name}, line {old.lineno}"
                yield f"{where}: {ast.unparse(old)} too early", ast.unparse(tree)
                body.insert(i, body.pop(before))


def _statements(node: ast.AST) -> Iterator[tuple[list[ast.stmt], int]]:
    for child in ast.walk(node):
        for part in ("body", "orelse"):
            body = getattr(child, part, None)
            if isinstance(body, list):
                yield from ((body, i) for i in range(len(body)))


def _changed(name: str, old: ast.stmt, call: ast.Call) -> Iterator[tuple[str, ast.stmt]]:
    """The statement without its call, and with a wrong number in it."""
    text = ast.unparse(call)
    if name == "warpgroup_mma_wait":
        assert isinstance(old, ast.Assign)
        deps = next(each.value for each in call.keywords if each.arg == "deps")
        assert isinstance(deps, ast.List)
        values = ast.Tuple(deps.elts, ast.Load()) if len(deps.elts) > 1 else deps.elts[0]
        yield f"no {text}", ast.Assign(old.targets, values, lineno=old.lineno)
    else:
        yield f"no {text}", ast.Pass()
    at = {"arrive": "count", "expect": 1, "init": "count", "wait": 1, "warpgroup_mma_wait": 0}
    if name in at:
        new = deepcopy(old)
        changed = new.value  # type: ignore[attr-defined]
        held = _argument(changed, at[name])
        if held is not None:
            held[0] = _wrong(name, held[0])
            _put(changed, at[name], held[0])
            yield f"{ast.unparse(changed)}", new


def _argument(call: ast.Call, at: int | str) -> list[ast.expr] | None:
    if isinstance(at, int) and len(call.args) > at:
        return [call.args[at]]
    return [each.value for each in call.keywords if each.arg == at] or None


def _put(call: ast.Call, at: int | str, new: ast.expr) -> None:
    if isinstance(at, int):
        call.args[at] = new
    for each in call.keywords:
        if each.arg == at:
            each.value = new


def _wrong(name: str, old: ast.expr) -> ast.expr:
    """Another phase, half the bytes, one more arrival or product in flight."""
    operators = {"wait": ast.BitXor(), "expect": ast.RShift()}
    return ast.BinOp(old, operators.get(name, ast.Add()), ONE)


def _wait_before(body: list[ast.stmt], i: int) -> int | None:
    """The last wait for products before a statement."""
    found = [j for j in range(i) if "warpgroup_mma_wait" in ast.unparse(body[j])]
    return found[-1] if found and not isinstance(body[found[-1]], ast.For | ast.If) else None
