"""What can go wrong, by whose fault it is. The command line maps each class to an exit status."""

from __future__ import annotations


def shortened(text: str, room: int = 400) -> str:
    """Text for a message: what a spec contributes to it may be longer than anyone reads."""
    return text if len(text) <= room else f"{text[: room - 80]} ... {text[-60:]}"


def printable(text: str, also: str = "\t") -> str:
    """Text for a terminal, which must not take orders from it; as long as the text.

    also: what stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in also else "?" for char in text)


class BslangError(Exception):
    """Base class of all errors that bslang raises deliberately."""

    exit_status = 1


class PatternError(BslangError):
    """A pattern that is invalid, or undefined at this length.

    `subject` is the primitive that is wrong, if it is one; `field` is its argument.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        subject: object = None,
        field: str = "",
        code: str = "E301",
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.subject, self.field, self.code = (
            message,
            hint,
            subject,
            field,
            code,
        )

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class LimitError(BslangError):
    """A limit of `bslang.limits` is exceeded; `hint` says how to stay below it."""

    exit_status = 3

    def __init__(self, limit: str, allowed: int, what: str, hint: str = "") -> None:
        message = f"{shortened(what)}: more than bslang allows ({limit} = {allowed})"
        super().__init__(f"{message}; {hint}" if hint else message)
        self.limit, self.allowed, self.what = limit, allowed, what


class VerifierError(Exception):
    """A stage handed on what it must never make: a bug of bslang's, whatever the spec.

    stage: which; what: the rule that is broken; where: at which row, run or term.
    """

    def __init__(self, stage: str, what: str, where: str = "") -> None:
        at = f" ({shortened(where)})" if where else ""
        super().__init__(f"{stage}: violated: {what}{at}")
        self.stage, self.what, self.where = stage, what, where


class TargetError(BslangError):
    """A target that is unknown, or that cannot run here."""


class BuildError(TargetError):
    """The system's compiler is missing or refused the generated source."""
