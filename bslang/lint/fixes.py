"""The fix of W405: the suffix `t` for the numbers of a call, where they are written out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from bslang.ir.pattern import Primitive
from bslang.ir.signature import arguments
from bslang.lint.units import COUNTS
from bslang.resolve.program import Program
from bslang.syntax import tree
from bslang.syntax.fix import Edit, Fix
from bslang.syntax.source import Span

Defaults = Mapping[str, tree.Expression]


class Fixes:
    """The fixes of a checked file."""

    def __init__(self, program: Program) -> None:
        self._program = program

    @cached_property
    def _calls(self) -> dict[Span, tuple[str, tree.Call]]:
        """Every call of the file, with the definition in whose body it stands; "" for the file's layout."""
        bodies = [(name, d.body) for name, d in self._program.definitions.items()]
        bodies += [("", self._program.layout.body)] if self._program.layout else []
        return {
            node.span: (name, node)
            for name, body in bodies
            for node in tree.nodes(body)
            if isinstance(node, tree.Call)
        }

    @cached_property
    def _called(self) -> set[str]:
        """What the file calls with arguments."""
        return {call.function.text for _, call in self._calls.values()}

    def in_tokens(self, written: Primitive, hint: str, span: Span) -> Fix | None:
        """The fix that lets a call count tokens; None where the numbers of the call are computed.

        written: the call as it is to be; hint: the advice of the warning; span: of the call. A number that
        a parameter brings is changed where it is the default, if this is its only use and no other value
        is given for any parameter in the file, which would have to go with it.
        """
        name, call = self._calls.get(span, ("", None))
        if call is None:
            return None
        definition = self._program.definitions.get(name)
        defaults = _defaults(definition) if definition and name not in self._called else {}
        leaves = [leaf for part in _counted(call, written) for leaf in _leaves(part, defaults)]
        return _suffixed(leaves, f"Count in tokens: `{written}`", hint)


def _defaults(definition: tree.Definition) -> Defaults:
    """The defaults of the parameters that a definition uses once."""
    uses = Counter(n.text for n in tree.nodes(definition.body) if isinstance(n, tree.Name))
    declared = {p.name.text: p.default for p in definition.parameters}
    return {name: value for name, value in declared.items() if value and uses[name] == 1}


def _counted(call: tree.Call, primitive: Primitive) -> Iterator[tree.Expression]:
    """The arguments of a call that count blocks or tokens."""
    declared = arguments(primitive)
    by_name = {argument.name: argument for argument in declared}
    places = [argument for argument in declared if not argument.keyword_only]
    for place, argument in enumerate(call.arguments):
        last = min(place, len(places) - 1)  # one that takes several takes all
        slot = by_name[argument.name.text] if argument.name else places[last]
        if slot.kind in COUNTS:
            yield argument.value


def _leaves(node: tree.Expression, defaults: Defaults) -> Iterator[tree.Expression]:
    """What an argument consists of, with the defaults of parameters in their place."""
    match node:
        case tree.Range():
            for part in (node.start, node.stop, node.step):
                if part:
                    yield from _leaves(part, defaults)
        case tree.Prefix():
            yield from _leaves(node.operand, defaults)
        case tree.Name() if node.text in defaults:
            yield from _leaves(defaults[node.text], {})
        case _:
            yield node


def _suffixed(leaves: list[tree.Expression], title: str, hint: str) -> Fix | None:
    """The suffix for each number; None if one of them is computed."""
    if not all(isinstance(leaf, (tree.Integer, tree.Infinity)) for leaf in leaves):
        return None
    ends = sorted(
        leaf.span.stop for leaf in leaves if isinstance(leaf, tree.Integer) and leaf.value
    )
    edits = tuple(Edit(Span(end, end), "t") for end in ends)
    return Fix(title, hint, edits) if edits else None
