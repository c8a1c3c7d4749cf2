"""Every diagnostic code: what it means and what to do. docs/errors.md is generated from this."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """title: what is wrong, in a few words; remedy: what to do; example: a program with the error.

    fixed: the example without the error.
    """

    title: str
    remedy: str
    example: str = ""
    fixed: str = ""


CODES: dict[str, Code] = {
    "E001": Code(
        "The file cannot be read",
        "Check the path. To use one definition of a file, name it after a colon: `patterns.bsl:bigbird`.",
    ),
    "E002": Code(
        "The file is not UTF-8 text",
        "Save the spec as UTF-8.",
    ),
    "E101": Code(
        "Syntax error",
        "The message says what was expected at the caret. An expression continues on the next line only "
        "inside parentheses.",
        "window(3) |",
        "window(3) | cols(0)",
    ),
    "E102": Code(
        "Only a name can be defined",
        "Write `name = pattern`, or `name(parameter = default) = pattern`.",
        "window(3) | x = all",
        "x = all",
    ),
    "E103": Code(
        "Unclosed parenthesis",
        "Close it. The caret shows where it opens.",
        "last(3",
        "last(3)",
    ),
    "E190": Code(
        "The file is too large",
        "It exceeds MAX_FILE_BYTES or MAX_WORDS. Split it into several files.",
    ),
    "E191": Code(
        "The pattern is too large or too deeply nested",
        "Use one primitive instead of many terms, such as `rows(0, 5, 9)`, and fewer levels of operators. "
        "Definitions count as if they were written out. bslang/limits.py lists the limits.",
    ),
    "E192": Code(
        "Too many errors",
        "Only the first MAX_ERRORS errors are shown. Fix these and run again.",
    ),
    "E193": Code(
        "The spec takes too much work to compile",
        "It exceeds MAX_WORK. Work is counted in steps over all stages, not in seconds, so a spec is "
        "refused on every machine or on none. The message names the most expensive part, and the help "
        "says what to write instead.",
    ),
    "E201": Code(
        "Unknown name",
        "It is neither a primitive nor a definition of the file nor a parameter. Check the spelling.",
        "windw(3)",
        "window(3)",
    ),
    "E202": Code(
        "A parameter is called as if it were a function",
        "Write the name of the parameter without parentheses.",
        "p(w = 3) = window(w(3))",
        "p(w = 3) = window(w)",
    ),
    "E203": Code(
        "Wrong number of arguments",
        "The help shows the form of the call.",
        "last(1, 2)",
        "last(2)",
    ),
    "E204": Code(
        "Unknown argument name",
        "The help shows the form of the call.",
        "window(3, stride=2)",
        "window(3, step=2)",
    ),
    "E205": Code(
        "Duplicate argument or parameter",
        "Remove one of the two.",
        "window(3, step=2, step=3)",
        "window(3, step=3)",
    ),
    "E206": Code(
        "Something is defined twice, or the name belongs to the language",
        "Choose another name.",
        "all = window(3)",
        "everything = window(3)",
    ),
    "E207": Code(
        "Circular definition",
        "The message shows the circle. Change one of its definitions.",
        "a = _b | all\n_b = a",
        "a = _b | cols(0)\n_b = window(3)",
    ),
    "E208": Code(
        "Unknown parameter",
        "The value is for a parameter that the definition does not declare. Declare it: `name(parameter = "
        "default) = pattern`.",
    ),
    "E209": Code(
        "A parameter has no value",
        "It has no default either. Pass a value with `-D name=value`, or as a keyword in Python.",
    ),
    "E210": Code(
        "No definition is chosen, or the chosen one does not exist",
        "If a file has several, name one after a colon: `patterns.bsl:bigbird`.",
        "a = all\nb = none",
    ),
    "E211": Code(
        "An imported file or a table cannot be read",
        "A spec can read regular files below its own folder, and the library as `std/...`.",
        'import "std/bigbrd.bsl"',
    ),
    "E212": Code(
        "Circular import",
        "Move what both files need to a third file.",
    ),
    "E213": Code(
        "Imported files have different blocks, or orders of tokens",
        "Set the same block and the same order in both files, or remove the setting from the imported one.",
    ),
    "E214": Code(
        "Unknown version of the language",
        "If a file states the version, `bsl 1` must be its first statement. A later version needs a newer "
        "bslang.",
        "bsl 2\nwindow(3)",
        "bsl 1\nwindow(3)",
    ),
    "E301": Code(
        "Expected a pattern and found a number, or the reverse",
        "An operator takes two patterns or two numbers. The union of patterns is `|`.",
        "window(3) | 4",
        "window(3) | cols(4)",
    ),
    "E302": Code(
        "Blocks and tokens are mixed",
        "Give every number of a primitive the suffix `t` (tokens), or none of them (blocks); 0 goes with "
        "both. `n` and `m` count blocks, `len_q` and `len_k` count tokens. Compare positions with tokens "
        "in `{q, k : ...}`, and with blocks in `{i, j : ...}`.",
        "window(left=100t, right=1)",
        "window(left=100t, right=1t)",
    ),
    "E303": Code(
        "A number is out of range, or arguments do not fit together",
        "The message says which values are accepted.",
        "window(4)",
        "window(left=2, right=1)",
    ),
    "E304": Code(
        "A computation on numbers has no result",
        "It divides by zero, exceeds MAX_NUMBER, or computes with `inf`.",
        "last(8 // 0)",
        "last(8 // 2)",
    ),
    "E305": Code(
        "Invalid composition",
        "`p @ q` and `p ** k` go from block to block: write their parts in blocks, without `t`, and a `k` "
        "of 1 or more. Labels and selections, which the call gives, cannot be composed.",
        "causal @ window(3)",
        "last(inf) @ window(3)",
    ),
    "E306": Code(
        "The pattern needs square blocks",
        "It compares block rows with block columns. Count in tokens (suffix `t`), or set a square block.",
        "block 128x64\nwindow(3)",
        "block 128x64\nwindow(193t)",
    ),
    "E307": Code(
        "Expected a finite number and found `inf`",
        "Write a finite number.",
        "strided(inf)",
        "strided(8)",
    ),
    "E308": Code(
        "Malformed set-builder",
        "Write `{i, j : predicate}` for blocks or `{q, k : predicate}` for tokens. A predicate compares "
        "numbers; labels such as `time[q]` are those of tokens.",
        "{i, j : i - j}",
        "{i, j : i - j != 2}",
    ),
    "E309": Code(
        "Invalid heads of a branch",
        "Give each branch of `heads` a number or a range of heads that no other branch has. A range excludes "
        "its end: `0:4` is heads 0 to 3.",
        "heads { 0:4 -> window(3); 3: -> causal }",
        "heads { 0:3 -> window(3); 3: -> causal }",
    ),
    "E310": Code(
        "Invalid table file",
        "Save a boolean matrix with one row per block row: `numpy.save(path, matrix.astype(bool))`.",
    ),
    "E311": Code(
        "A name of a call is read in two ways",
        "A call gives one value for a name: labels for each token or a number for each batch row, and a "
        "selection with cells of one size. Use two names.",
        "select(pick, rows=1t) | select(pick)",
        "select(near, rows=1t) | select(far)",
    ),
    "E312": Code(
        "Blocks are counted in a file with an order of tokens",
        "With an order, a block is no run of positions. Count in tokens, with the suffix `t`: numbers are "
        "those of the grid row by row. What goes by blocks (`random`, `table`, `@`, `**`, `{i, j : ...}`, "
        "`n` and `m`) cannot be used.",
        "order tiles(8, 8; 4, 4)\nwindow(3)",
        "order tiles(8, 8; 4, 4)\nwindow(3t)",
    ),
    "E401": Code(
        "The pattern is undefined at this length",
        "An index is outside the sequence, or a grid has another size. Use a longer sequence, a smaller "
        "index, or a range: ranges are cut to the length.",
    ),
    "W401": Code(
        "A query sees no key",
        "Its output is 0. Patterns that only look back often leave out the first queries. Add "
        "`diagonals(0)`, so that each query sees its own block.",
        "diagonals(1)",
        "diagonals(0, 1)",
    ),
    "W402": Code(
        "A query sees later tokens, although part of the pattern is causal",
        "`&` binds tighter than `|`: in `p | q & causal` only `q` is causal.",
        "window(3) | cols(0) & causal",
        "(window(3) | cols(0)) & causal",
    ),
    "W403": Code(
        "An operand has no effect",
        "In a union, the other operands already contain it; in an intersection or a difference, it "
        "removes nothing. Remove it, or check its numbers.",
        "window(3) | window(5)",
        "window(5)",
    ),
    "W404": Code(
        "Far fewer random blocks remain than were drawn",
        "Blocks that are drawn and then removed are not replaced. Draw only from those that stay, with "
        "`within`.",
        "(window(3) | random(4, seed=7)) & causal",
        "(window(3) | random(4, seed=7, within=causal)) & causal",
    ),
    "W405": Code(
        "A number of blocks looks like a number of tokens",
        "Numbers count blocks; with the suffix `t` they count tokens. The warning is given for 128 blocks "
        "or more, and with `--seq-len` for more blocks than the sequence has.",
        "last(256)",
        "last(256t)",
    ),
}
