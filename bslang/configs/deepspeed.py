"""DeepSpeed's `sparse_attention` section: every mode and option of its SparsityConfig classes.

Layouts are those of the classes (deepspeed/ops/sparse_attention/sparsity_config.py), block for block
and at any length. Defaults are those of DeepSpeed's reader of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bslang.configs.document import Definition
from bslang.configs.document import document as written
from bslang.configs.values import ConfigError, Values, shown
from bslang.limits import MAX_BLOCK, MAX_HEADS
from bslang.resolve.suggest import closest

_GLOBALS = ("global_block_indices", "global_block_end_indices")
_SHARED = ("block", "different_layout_per_head")


@dataclass(frozen=True)
class Layout:
    """What a mode means: the definitions, the layout's first, and notes for the reader.

    whole: the layout before what lies ahead of the query is cut off by block; `whole & causal` cuts it
    off by token.
    """

    definitions: list[Definition]
    notes: list[str]
    whole: str = ""


CLASS = re.compile(r"(?:.*[.:/])?(\w*SparsityConfig)")
"""Text that names a class of a layout."""

_CLASSES = {
    "DenseSparsityConfig": "dense",
    "FixedSparsityConfig": "fixed",
    "VariableSparsityConfig": "variable",
    "BigBirdSparsityConfig": "bigbird",
    "BSLongformerSparsityConfig": "bslongformer",
    "LocalSlidingWindowSparsityConfig": "local_sliding_window",
}


def document(section: Values, name: str, around: Mapping[str, object] | None = None) -> str:
    """The spec of a section. around: what stands beside it, which may name its class. Raises ConfigError."""
    section, mode = _of_class(section, around or {})
    for key in section.values:
        if key not in ("mode", "num_heads") and key not in OPTIONS:
            near = closest(key, OPTIONS)
            hint = f"did you mean `{near}`?" if near else "DeepSpeed has no such option"
            raise ConfigError(f"unknown key {shown(key)} in `sparse_attention`; {hint}")
    block = section.number("block", 16, 1, MAX_BLOCK)
    layout = _MODES[mode].make(section)
    about = [f'Imported from {name}: sparse attention of DeepSpeed, mode "{mode}".', *layout.notes]
    definitions = layout.definitions
    if _unidirectional(section, mode):
        about.append(
            f"`{mode}` is DeepSpeed's layout of whole blocks: blocks on the diagonal include later tokens, "
            f"which decoders mask separately. `{mode}_causal` includes that mask."
        )
        token = Definition(f"{mode}_causal", f"({layout.whole}) & causal", "Causal to the token.")
        definitions = [definitions[0], token, *definitions[1:]]
    ignored = [key for key in section.values if key in OPTIONS and key not in _MODES[mode].options]
    if ignored:
        about.append(f"Options that this mode does not use: {', '.join(ignored)}.")
    return written(about, definitions, block)


def _of_class(section: Values, around: Mapping[str, object]) -> tuple[Values, str]:
    """The options of a section, with the defaults of its class where that is named, and the mode."""
    named: dict[str, str] = {}
    for values in (around, section.values):
        for key, value in values.items():
            found = CLASS.fullmatch(value) if isinstance(value, str) else None
            if found:
                named[key] = found[1]
    options = {key: value for key, value in section.values.items() if key not in named}
    classes = {*named.values()}
    if not classes:
        if "num_heads" in options and "mode" not in options:
            raise ConfigError(
                "`num_heads` is an argument of DeepSpeed's classes, and nothing says of which; add `mode`, "
                "one of " + ", ".join(map(shown, _MODES))
            )
        return Values(options), section.choice("mode", "fixed", tuple(_MODES))
    key, written = next(iter(named.items()))
    if len(classes) > 1 or written not in _CLASSES:
        what = " and ".join(sorted(classes))
        raise ConfigError(f"`{key}` is {shown(what)}; supported classes: {', '.join(_CLASSES)}")
    mode = _CLASSES[written]
    if "mode" in options and section.choice("mode", mode, tuple(_MODES)) != mode:
        raise ConfigError(
            f'`{key}` is {written}, which belongs to mode "{mode}", but `mode` is another'
        )
    if mode == "bigbird":
        options.setdefault("num_random_blocks", 1)
    return Values(options), mode


def _unidirectional(section: Values, mode: str) -> bool:
    """Whether a mode is for decoders; it raises ConfigError for another word."""
    if "attention" not in _MODES[mode].options:
        return False
    default = "unidirectional" if mode == "local_sliding_window" else "bidirectional"
    words = ("unidirectional", "bidirectional")
    return section.choice("attention", default, words) == "unidirectional"


def _horizontal(section: Values, causal: bool) -> bool:
    horizontal = section.flag("horizontal_global_attention", False)
    if horizontal and causal:
        raise ConfigError('`horizontal_global_attention` needs `attention` "bidirectional"')
    return horizontal


# ---- modes -----------------------------------------------------------------------------------------


def _dense(section: Values) -> Layout:
    return Layout([Definition("dense", "all", "Every block.")], [])


def _fixed(section: Values) -> Layout:
    local = section.number("num_local_blocks", 4, 1)
    width = section.number("num_global_blocks", 1, 1)
    patterns = section.number("num_different_global_patterns", 1, 1, MAX_HEADS)
    if local % width:
        raise ConfigError(
            f"`num_local_blocks` ({local}) must be a multiple of `num_global_blocks` ({width})"
        )
    if patterns > local // width:
        raise ConfigError(
            f"`num_different_global_patterns` ({patterns}) can be at most num_local_blocks // "
            f"num_global_blocks = {local // width}"
        )
    if patterns > 1 and not section.flag("different_layout_per_head", False):
        raise ConfigError("`num_different_global_patterns` needs `different_layout_per_head`: true")
    causal = _unidirectional(section, "fixed")
    about = f"{local} blocks see one another, and all see the summary blocks."
    places, summary = zip(*(_summary(local, width, at) for at in range(patterns)), strict=True)
    where = f"The last {width} of every {local} blocks"
    where += ", further to the left for each head of a round" if patterns > 1 else ""
    private = [
        Definition(
            "_summary", _by_head(summary), f"{where}; where the sequence ends, its last ones."
        )
    ]
    if _horizontal(section, causal):
        body = f"chunks({local}) | _summary | _summary.T"
        about = about[:-1] + ", which see all."
    elif not causal:
        body = f"chunks({local}) | _summary"
    elif width == 1:
        body = f"(chunks({local}) | _summary) & last(inf)"
    else:
        body = (
            f"chunks({local}) & last(inf) | _summary & {{i, j : j <= i | {width} <= n <= i + {width}}} "
            f"| _whole & chunks({width})"
        )
        about += " Rows of a summary begin at its first block, so that its blocks see one another."
        private.append(Definition("_whole", _by_head(places), f"{where}."))
    return Layout([Definition("fixed", body, about), *private], [], f"chunks({local}) | _summary")


def _by_head(branches: Sequence[str]) -> str:
    """Patterns that heads take one after the other."""
    if len(branches) == 1:
        return branches[0]
    each = (f"{head}::{len(branches)} -> {branch}" for head, branch in enumerate(branches))
    return f"heads {{ {'; '.join(each)} }}"


def _summary(local: int, width: int, pattern: int) -> tuple[str, str]:
    """The summary columns of one pattern: those of each window, and with the last ones of the sequence.

    A short last window that ends before its summary does gives its last columns, be they of the
    window before.
    """
    first = local - width * (1 + pattern)
    stop = first + width
    if width == 1:
        places = f"j % {local} == {first}"
    elif stop == local:
        places = f"j % {local} >= {first}"
    else:
        places = f"j % {local} < {stop}" if first == 0 else f"{first} <= j % {local} < {stop}"
    short = "" if stop == local else f" & 0 < n % {local} < {stop}"
    return f"{{i, j : {places} & n >= {width}}}", f"{{i, j : {places} | j >= n - {width}{short}}}"


def _variable(section: Values) -> Layout:
    causal = _unidirectional(section, "variable")
    widths = section.numbers("local_window_blocks", [4], least=1)
    if not widths:
        raise ConfigError("`local_window_blocks` must have a number")
    indices = _indices(section)
    primitive = "global" if _horizontal(section, causal) else "cols"
    local = f"chunks({', '.join(map(str, widths))})"
    everywhere = [f"{primitive}({', '.join(indices)})"] if indices else []
    drawn, notes = _random(section)
    whole = " | ".join([local, *everywhere, *drawn])
    if not causal:
        parts = [whole]
    elif section.values.get("global_block_end_indices"):
        # The rows of a range begin at its first block, so that its blocks see one another.
        ranges = [f"cols({one}) & rows({one.partition(':')[0]}:)" for one in indices]
        parts = [f"{local} & last(inf)", *ranges, *drawn]
    else:
        parts = [f"({' | '.join([local, *everywhere])}) & last(inf)", *drawn]
    about = f"Windows of {', '.join(map(str, widths))} blocks, the last again and again"
    about += "; global blocks." if indices else "."
    if drawn and causal:
        notes.append("In this mode DeepSpeed draws random blocks ahead of the query too.")
    return Layout([Definition("variable", " | ".join(parts), about)], notes, whole)


def _bigbird(section: Values) -> Layout:
    causal = _unidirectional(section, "bigbird")
    leading = section.number("num_global_blocks", 1)
    globals_ = [f"0:{leading}"] if leading else []
    drawn, notes = _random(section, "within=last(inf)" if causal else "")
    whole, body = (
        " | ".join([_windowed(section, globals_, cut), *drawn]) for cut in (False, causal)
    )
    if drawn and causal:
        notes.append("DeepSpeed refuses rows with fewer blocks than it draws; here they see all.")
    if "num_random_blocks" not in section.values:
        notes.append(
            "`num_random_blocks` is not set: 0 in DeepSpeed's reader of JSON. The default of its class "
            "is 1: `| random(1)`."
        )
    about = "A window, leading global blocks, and random ones."
    return Layout([Definition("bigbird", body, about)], [*_passed_on(section), *notes], whole)


def _bslongformer(section: Values) -> Layout:
    causal, indices = _unidirectional(section, "bslongformer"), _indices(section)
    whole, body = (_windowed(section, indices, cut) for cut in (False, causal))
    about = "A window and global blocks." if indices else "A window."
    return Layout([Definition("bslongformer", body, about)], _passed_on(section), whole)


def _local(section: Values) -> Layout:
    body = _windowed(section, [], _unidirectional(section, "local_sliding_window"))
    note = "DeepSpeed's reader of JSON does not know this mode; its LocalSlidingWindowSparsityConfig does."
    return Layout([Definition("local_sliding_window", body, "A window.")], [note], body)


# ---- what modes share ------------------------------------------------------------------------------


def _windowed(section: Values, globals_: list[str], causal: bool) -> str:
    """A window of blocks and global ones, without what lies ahead of the query where that is causal."""
    each_side = section.number("num_sliding_window_blocks", 3) // 2
    if causal and not globals_:
        return f"last({each_side + 1})"
    parts = [f"window({2 * each_side + 1})"]
    parts += [f"global({', '.join(globals_)})"] if globals_ else []
    body = " | ".join(parts)
    return f"({body}) & last(inf)" if causal else body


def _indices(section: Values) -> list[str]:
    """The global blocks, as arguments. A range is cut to the sequence; one block of it may be missing."""
    starts = section.numbers("global_block_indices", [0])
    if section.values.get("global_block_end_indices") is None:
        single = [str(at) if at <= 0 else f"{at}:{at + 1}" for at in starts]
        return list(dict.fromkeys(single))
    stops = section.numbers("global_block_end_indices", [])
    if len(starts) != len(stops):
        raise ConfigError(
            f"`global_block_end_indices` must have as many numbers as `global_block_indices` "
            f"({len(starts)}), not {len(stops)}"
        )
    for start, stop in zip(starts, stops, strict=True):
        if start >= stop:
            raise ConfigError(
                f"a global range must end after its start: `global_block_indices` has {start}, "
                f"`global_block_end_indices` {stop}"
            )
    return list(dict.fromkeys(f"{a}:{b}" for a, b in zip(starts, stops, strict=True)))


def _random(section: Values, within: str = "") -> tuple[list[str], list[str]]:
    """The random blocks as a term, or none, and what is to be said of them."""
    count = section.number("num_random_blocks", 0)
    if not count:
        return [], []
    seed = "seed=head" if section.flag("different_layout_per_head", False) else ""
    note = (
        "DeepSpeed draws its random blocks with Python's `random`, anew for every layout that it makes, "
        "so the same draw cannot be repeated. Here as many blocks are drawn, as docs/random.md says, and "
        "`seed` chooses the draw."
    )
    arguments = ", ".join(part for part in (str(count), seed, within) if part)
    return [f"random({arguments})"], [note]


def _passed_on(section: Values) -> list[str]:
    if "attention" not in section.values:
        return []
    return [
        "`attention` is read as the class of this mode reads it; DeepSpeed's reader of JSON does not pass "
        'it on, and leaves it "bidirectional".'
    ]


@dataclass(frozen=True)
class _Mode:
    """How a mode is read, and which options it uses."""

    make: Callable[[Values], Layout]
    options: tuple[str, ...]


_MODES = {
    "dense": _Mode(_dense, _SHARED),
    "fixed": _Mode(
        _fixed,
        (
            *_SHARED,
            "num_local_blocks",
            "num_global_blocks",
            "attention",
            "horizontal_global_attention",
            "num_different_global_patterns",
        ),
    ),
    "variable": _Mode(
        _variable,
        (
            *_SHARED,
            "num_random_blocks",
            "local_window_blocks",
            *_GLOBALS,
            "attention",
            "horizontal_global_attention",
        ),
    ),
    "bigbird": _Mode(
        _bigbird,
        (
            *_SHARED,
            "num_random_blocks",
            "num_sliding_window_blocks",
            "num_global_blocks",
            "attention",
        ),
    ),
    "bslongformer": _Mode(
        _bslongformer, (*_SHARED, "num_sliding_window_blocks", *_GLOBALS, "attention")
    ),
    "local_sliding_window": _Mode(_local, ("block", "num_sliding_window_blocks", "attention")),
}

OPTIONS = tuple(dict.fromkeys(key for mode in _MODES.values() for key in mode.options))
"""Every option of a `sparse_attention` section, `mode` apart."""
