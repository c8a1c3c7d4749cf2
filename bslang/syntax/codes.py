"""Every diagnostic code: what it means and what to do. docs/errors.md is made of this."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """title: what is wrong; remedy: what to do about it; example: a program with the error.

    mended: the example, put right.
    """

    title: str
    remedy: str
    example: str = ""
    mended: str = ""


CODES: dict[str, Code] = {
    "E001": Code(
        "A file cannot be read",
        "Check the path. A definition is named after a colon, as in `patterns.bsl:bigbird`.",
    ),
    "E002": Code("A file is not UTF-8 text", "Save the spec as UTF-8."),
    "E101": Code(
        "A statement breaks off or has a character in the wrong place",
        "The message says what could stand there. An expression goes on over several lines only inside "
        "parentheses.",
        "window(3) |",
        "window(3) | cols(0)",
    ),
    "E102": Code(
        "What stands before `=` cannot be defined",
        "Write `name = pattern`, or `name(parameter = default) = pattern`.",
        "window(3) | x = all",
        "x = all",
    ),
    "E103": Code(
        "A parenthesis is never closed",
        "Close it; the caret shows where it opens.",
        "last(3",
        "last(3)",
    ),
    "E190": Code("A file is larger than MAX_FILE_BYTES or MAX_WORDS allow", "Cut it into several."),
    "E191": Code(
        "A pattern is larger or deeper than a limit allows",
        "Use one primitive in place of many terms, such as `rows(0, 5, 9)`, and fewer levels of operators: "
        "definitions count as if they were written out. The limits are named in bslang/limits.py.",
    ),
    "E192": Code(
        "There are more than MAX_ERRORS errors",
        "Only the first MAX_ERRORS errors are shown. Fix these and run again.",
    ),
    "E193": Code(
        "A spec takes more work than MAX_WORK allows",
        "Work is counted in steps, for all stages together, so that a spec is refused everywhere or nowhere. "
        "The message says what took most of it, the help what to write instead.",
    ),
    "E201": Code(
        "A name is not known",
        "It is no primitive, no definition of the file, and no parameter. Check its spelling.",
        "windw(3)",
        "window(3)",
    ),
    "E202": Code(
        "A parameter is called like a function",
        "Write the parameter's name alone.",
        "p(w = 3) = window(w(3))",
        "p(w = 3) = window(w)",
    ),
    "E203": Code(
        "A call has too many arguments, or lacks one",
        "The message shows the form of the call.",
        "last(1, 2)",
        "last(2)",
    ),
    "E204": Code(
        "A call names an argument that is not there",
        "The message shows the form of the call.",
        "window(3, stride=2)",
        "window(3, step=2)",
    ),
    "E205": Code(
        "Something is given twice",
        "Leave one of them out.",
        "window(3, step=2, step=3)",
        "window(3, step=3)",
    ),
    "E206": Code(
        "Something is defined twice, or has a name of the language",
        "Choose another name.",
        "all = window(3)",
        "everything = window(3)",
    ),
    "E207": Code(
        "A definition refers to itself",
        "The message shows the circle; break it somewhere.",
        "a = _b | all\n_b = a",
        "a = _b | cols(0)\n_b = window(3)",
    ),
    "E208": Code(
        "A value is given for a parameter that is not declared",
        "Declare it: `name(parameter = default) = pattern`.",
    ),
    "E209": Code(
        "A parameter has neither a default nor a value",
        "Give it one with `-D name=value`, or as a keyword in Python.",
    ),
    "E210": Code(
        "It is not clear which definition is meant, or it is not there",
        "Name one after a colon, as in `patterns.bsl:bigbird`.",
        "a = all\nb = none",
    ),
    "E211": Code(
        "A file that a spec names cannot be read",
        "A spec reads only regular files below its own folder, and `std/...`, the library.",
        'import "std/bigbrd.bsl"',
    ),
    "E212": Code("A file imports itself", "Move what both files need to a third one."),
    "E213": Code(
        "Files are written for different blocks",
        "Set the same block in both, or in none of the imported ones.",
    ),
    "E214": Code(
        "A file is written in a version of the language that is not known, or says so too late",
        "`bsl 1`, where it is written, is the first statement. For a later version install a newer bslang.",
        "bsl 2\nwindow(3)",
        "bsl 1\nwindow(3)",
    ),
    "E301": Code(
        "A number stands where a pattern belongs, or the other way round",
        "Operators join two patterns or two numbers. The union of patterns is `|`.",
        "window(3) | 4",
        "window(3) | cols(4)",
    ),
    "E302": Code(
        "Blocks and tokens are mixed",
        "Give every number of one primitive the suffix `t`, or none; a 0 goes with either. `n` and `m` count "
        "blocks, `len_q` and `len_k` tokens. In `{q, k : ...}` positions are compared with tokens, and in "
        "`{i, j : ...}` with blocks.",
        "window(left=100t, right=1)",
        "window(left=100t, right=1t)",
    ),
    "E303": Code(
        "A number is out of range, or arguments mean nothing together",
        "The message says what is accepted.",
        "window(4)",
        "window(left=2, right=1)",
    ),
    "E304": Code(
        "A computation on numbers has no result",
        "It divides by zero, passes MAX_NUMBER, or computes with `inf`.",
        "last(8 // 0)",
        "last(8 // 2)",
    ),
    "E305": Code(
        "A composition has a part that counts tokens, or is taken less than once",
        "`p @ q` and `p ** k` go from block to block. Count in blocks, and use 1 or more for k.",
        "causal @ window(3)",
        "last(inf) @ window(3)",
    ),
    "E306": Code(
        "Block rows are compared with block columns, and blocks are not square",
        "Count in tokens (suffix `t`), or set a square block.",
        "block 128x64\nwindow(3)",
        "block 128x64\nwindow(193t)",
    ),
    "E307": Code(
        "`inf` stands where a finite number is needed",
        "Write a number.",
        "strided(inf)",
        "strided(8)",
    ),
    "E308": Code(
        "A set-builder is none",
        "Write `{i, j : predicate}` for blocks, or `{q, k : predicate}` for tokens; a predicate compares "
        "numbers.",
        "{i, j : i - j}",
        "{i, j : i - j != 2}",
    ),
    "E309": Code(
        "A branch of `heads` has no heads, or some that another has",
        "Give each a number or a range of heads; a range leaves out its end.",
        "heads { 0:4 -> window(3); 3: -> causal }",
        "heads { 0:3 -> window(3); 3: -> causal }",
    ),
    "E310": Code(
        "A table's file is none",
        "Save a boolean matrix, a row for each block row: `numpy.save(path, matrix.astype(bool))`.",
    ),
    "E401": Code(
        "A pattern means nothing at this length",
        "An index lies outside of the sequence. Use a longer one, a smaller index, or a range: ranges are "
        "cut to the length.",
    ),
    "W401": Code(
        "A query sees no key",
        "Its output is 0. Often a pattern that only looks back leaves out the first queries; a union with "
        "`diagonals(0)` lets each see its own block.",
        "diagonals(1)",
        "diagonals(0, 1)",
    ),
    "W402": Code(
        "A query sees later tokens, beside parts that are causal",
        "`&` binds tighter than `|`, so that `p | q & causal` is causal in `q` alone.",
        "window(3) | cols(0) & causal",
        "(window(3) | cols(0)) & causal",
    ),
    "W403": Code(
        "An operand changes nothing",
        "The others hold all of it (or, in an intersection or difference, it takes nothing away). Leave it "
        "out, or check its numbers.",
        "window(3) | window(5)",
        "window(5)",
    ),
    "W404": Code(
        "Random draws come to much less than was asked for",
        "What is drawn and then taken away is not drawn anew. Draw from what stays, with `within`.",
        "(window(3) | random(4, seed=7)) & causal",
        "(window(3) | random(4, seed=7, within=causal)) & causal",
    ),
    "W405": Code(
        "A number of blocks reads like a number of tokens",
        "Numbers count blocks; with the suffix `t` they count tokens. The warning is about 128 blocks and "
        "more, or with `--seq-len` about numbers of blocks that pass the sequence.",
        "last(256)",
        "last(256t)",
    ),
}
