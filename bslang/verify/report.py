"""What a verification finds, and the rule that errors are held to. No tensors here: commands read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bslang.shown import Shown

PARTS = ("out", "lse", "dq", "dk", "dv")
"""What is compared: the results of a call, and the gradients of its tensors."""

_CELL = 20  # characters of a column

FACTOR = 2.0
"""How many times as large an error may be as that of dense attention in the same dtype."""


@dataclass(frozen=True)
class Call:
    """Errors of one call by part: largest difference from dense fp64 attention over its largest number.

    what: the call, in words; ours: of a target; dense: of dense attention in the target's dtype.
    """

    what: str
    ours: Mapping[str, float]
    dense: Mapping[str, float]


@dataclass(frozen=True)
class Off:
    """A part of a target's results that is off, and the call where it is off by most."""

    part: str
    what: str
    error: float
    bound: float


@dataclass
class Errors:
    """Errors of a target in one dtype over several calls.

    The figure of a part is the root of its mean square over calls. Single calls scatter: of few tokens,
    the larger of a few roundings is divided by the larger of a few others.
    least: no bound is below it, so that a dense call that rounds nothing binds nobody.
    """

    least: float = 0.0
    calls: list[Call] = field(default_factory=list)

    def mean(self, part: str) -> tuple[float, float]:
        """The figure of a target, and that of dense attention."""
        ours = _root_mean_square([call.ours[part] for call in self.calls])
        return ours, _root_mean_square([call.dense[part] for call in self.calls])

    def bound(self, part: str) -> float:
        """What the figure of a target may be at most."""
        return max(FACTOR * self.mean(part)[1], self.least)

    def ratios(self) -> dict[str, float]:
        """How many times as large the errors are as those of dense attention; 0 where neither errs."""
        means = {part: self.mean(part) for part in PARTS}
        return {part: ours / plain if ours else 0.0 for part, (ours, plain) in means.items()}

    def off(self) -> Off | None:
        """What is off, results before the gradients that follow from them; None for nothing."""
        for part in PARTS:
            # not <=: NaN is no number that a bound could hold.
            if self.calls and not self.mean(part)[0] <= self.bound(part):
                call = max(self.calls, key=lambda call: _size(call.ours[part]))
                return Off(part, call.what, call.ours[part], self.bound(part))
        return None


def _root_mean_square(errors: list[float]) -> float:
    return math.sqrt(sum(error * error for error in errors) / len(errors))


def _size(error: float) -> float:
    return math.inf if math.isnan(error) else error


@dataclass
class Row:
    """What a target computes on a device in one dtype.

    raised: why a call came to nothing, "" where all came to an end.
    """

    target: str
    device: str
    dtype: str
    errors: Errors
    raised: str = ""

    @property
    def who(self) -> str:
        """The target, its device and dtype."""
        return f"{self.target} on {self.device}, {self.dtype}"

    def cells(self) -> list[str]:
        """The error of each part, dense attention's in parentheses; marked where it passes its bound."""
        if not self.errors.calls:
            return ["raised an error"]
        means = {part: self.errors.mean(part) for part in PARTS}
        return [
            f"{ours:.1e} ({plain:.1e})" + "!" * (not ours <= self.errors.bound(part))
            for part, (ours, plain) in means.items()
        ]

    @property
    def failure(self) -> str:
        """What is wrong, as a sentence; "" where nothing is."""
        if self.raised:
            return f"{self.who}: {self.raised}"
        if (off := self.errors.off()) is None:
            return ""
        return (
            f"{self.who}: {off.part} is off by {off.error:.1e} at {off.what}; the bound is "
            f"{off.bound:.1e}, twice the error of dense attention in {self.dtype}"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON; errors that are no numbers are null."""
        parts = {}
        for part in PARTS if self.errors.calls else ():
            ours, plain = self.errors.mean(part)
            numbers = {"error": ours, "dense": plain, "bound": self.errors.bound(part)}
            parts[part] = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        return {
            "target": self.target,
            "device": self.device,
            "dtype": self.dtype,
            "calls": len(self.errors.calls),
            "errors": parts,
            "failure": self.failure or None,
        }


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """The targets of a layout on this machine's devices, beside dense attention: `str` is a table of errors.

    calls: those that were compared, in words. meaningless: calls at whose lengths the layout means
    nothing, and why. not_run: targets that do not run here, or dtypes of theirs, and why.
    """

    rows: tuple[Row, ...]
    calls: tuple[str, ...]
    meaningless: Mapping[str, str]
    not_run: Mapping[str, str]

    @property
    def failures(self) -> tuple[str, ...]:
        """What is wrong, a sentence for each row where something is."""
        return tuple(row.failure for row in self.rows if row.failure)

    @property
    def good(self) -> str:
        """What to say where nothing is wrong."""
        return (
            f"good: {len(self.calls)} calls, forward and backward; errors are at most twice those of "
            "dense attention, or within rounding"
        )

    @property
    def bad(self) -> str:
        """What to say of the failures, of which there is one at least."""
        these = "this target" if len(self.failures) == 1 else "these targets"
        return "\nerror: ".join(self.failures) + (
            f"\nDo not use {these} for this layout; please report it, with the spec and the output of "
            "`bslang verify --json`."
        )

    def __str__(self) -> str:
        verdict = f"error: {self.bad}" if self.failures else self.good
        return "\n".join([*self.lines(), "", verdict])

    def lines(self) -> list[str]:
        """The errors of each target in each dtype, and what was not run."""
        width = max(len(row.who) for row in self.rows)
        lines = [" " * width + "".join(f"  {part:<{_CELL}}" for part in PARTS)]
        for row in self.rows:
            cells = (f"  {cell:<{_CELL}}" for cell in row.cells())
            lines.append(f"{row.who:<{width}}" + "".join(cells))
        lines = [line.rstrip() for line in lines]
        lines += [
            "",
            "errors against fp64; in parentheses those of dense attention in the same dtype",
        ]
        lines += [f"not run: {what}: {why}" for what, why in self.not_run.items()]
        lines += [f"undefined at {what}: {why}" for what, why in self.meaningless.items()]
        return lines

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            "calls": list(self.calls),
            "meaningless": dict(self.meaningless),
            "not_run": dict(self.not_run),
        }
