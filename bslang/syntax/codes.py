"""Every diagnostic code: what it means and what to do. docs/errors.md is made of this."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """title: what is wrong; remedy: what to do about it; example: a program with the error."""

    title: str
    remedy: str
    example: str = ""


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
    ),
    "E102": Code(
        "What stands before `=` cannot be defined",
        "Write `name = pattern`, or `name(parameter = default) = pattern`.",
        "window(3) | x = all",
    ),
    "E103": Code(
        "A parenthesis is never closed", "Close it; the caret shows where it opens.", "last(3"
    ),
    "E190": Code("A file is larger than MAX_FILE_BYTES or MAX_WORDS allow", "Cut it into several."),
    "E191": Code(
        "A pattern is larger or deeper than a limit allows",
        "Use one primitive in place of many terms, such as `rows(0, 5, 9)`, and fewer levels of operators: "
        "definitions count as if they were written out. The limits are named in bslang/limits.py.",
    ),
    "E192": Code("There are MAX_ERRORS errors", "Mend those that are shown; then come the others."),
    "E201": Code(
        "A name is not known",
        "It is no primitive, no definition of the file, and no parameter. Check its spelling.",
        "windw(3)",
    ),
    "E202": Code(
        "A parameter is called like a function",
        "Write the parameter's name alone.",
        "p(w) = window(w(3))",
    ),
    "E203": Code(
        "A call has too many arguments, or lacks one",
        "The message shows the form of the call.",
        "last(1, 2)",
    ),
    "E204": Code(
        "A call names an argument that is not there",
        "The message shows the form of the call.",
        "window(3, stride=2)",
    ),
    "E205": Code("Something is given twice", "Leave one of them out.", "window(3, step=2, step=3)"),
    "E206": Code(
        "Something is defined twice, or has a name of the language",
        "Choose another name.",
        "all = window(3)",
    ),
    "E207": Code(
        "A definition refers to itself",
        "The message shows the circle; break it somewhere.",
        "a = b | all\nb = a",
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
    "E301": Code(
        "A number stands where a pattern belongs, or the other way round",
        "Operators join two patterns or two numbers. The union of patterns is `|`.",
        "window(3) | 4",
    ),
    "E302": Code(
        "Blocks and tokens are mixed",
        "Give every number of one primitive the suffix `t`, or none. A 0 goes with either.",
        "window(left=100t, right=1)",
    ),
    "E303": Code(
        "A number is out of range, or arguments mean nothing together",
        "The message says what is accepted.",
        "window(4)",
    ),
    "E304": Code(
        "A computation on numbers has no result",
        "It divides by zero, passes MAX_NUMBER, or computes with `inf` or with mixed units.",
        "last(8 // 0)",
    ),
    "E306": Code(
        "Block rows are compared with block columns, and blocks are not square",
        "Count in tokens (suffix `t`), or set a square block.",
        "block 128x64\nwindow(3)",
    ),
    "E307": Code("`inf` stands where a finite number is needed", "Write a number.", "strided(inf)"),
    "E401": Code(
        "A pattern means nothing at this length",
        "An index lies outside of the sequence. Use a longer one, a smaller index, or a range: ranges are "
        "cut to the length.",
    ),
}
