"""One account of what a command, a compilation or an editor's request may cost, for all of its stages.

A spec is data from someone else, and a short one may ask for much. Work is counted, not timed, so that the
same spec is refused everywhere or nowhere: a step is about 10 ns. Steps are taken before the work is done,
and at a rate that bounds the memory of what is made as well: an integer costs 4 steps or more.

    with limited():            # a command; nothing is counted outside
        spend(4 * cells.size, RUNS)   # a stage
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bslang.errors import LimitError
from bslang.limits import MAX_WORK

READING = (
    "reading and evaluating it",
    "use fewer definitions and parameters, and smaller expressions",
)
RUNS = "combining its blocks", "use fewer terms, or larger blocks"
MASKS = (
    "masks that are evaluated pair by pair",
    "use fewer terms that count tokens, count in blocks, or intersect them with a window",
)
DRAWS = "random blocks", "draw fewer blocks in each row, or use larger blocks"
HOPS = "compositions of patterns", "use smaller powers, or patterns with fewer blocks in each row"
MASK_CODE = "writing its masks", "use fewer terms that count tokens, or count in blocks"
"""Stages: what they do, and what to write where they cost too much."""

Stage = tuple[str, str]

_USUAL = 2**16  # tokens of a sequence; a user who asks for a longer one lets it cost more


class OverBudget(LimitError):
    """A spec takes more than MAX_WORK steps."""

    code = "E193"

    def __init__(self, allowed: int, stage: Stage) -> None:
        doing, self.remedy = stage
        what = f"this spec takes too much work, most of it for {doing}"
        self.said = f"{what} (MAX_WORK)"
        super().__init__("MAX_WORK", allowed, what, self.remedy)


class Budget:
    """Steps that are left, and for which stages the others went."""

    def __init__(self, allowed: int, whole: Budget | None = None) -> None:
        """whole: the budget of which this is a share."""
        self.allowed, self.left, self.whole = allowed, allowed, whole
        self.spent: dict[Stage, int] = {}

    @property
    def exhausted(self) -> bool:
        """Whether more was asked for than there is."""
        return self.left < 0 or (self.whole is not None and self.whole.exhausted)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Let `spend` take of it."""
        token = _open.set(self)
        try:
            yield
        finally:
            _open.reset(token)

    def spend(self, steps: int, stage: Stage) -> None:
        """Take some steps; OverBudget where they are not left, then and ever after."""
        if self.whole is not None:
            self.whole.spend(steps, stage)
        self.left -= steps
        self.spent[stage] = self.spent.get(stage, 0) + steps
        if self.exhausted:
            raise OverBudget(self.allowed, max(self.spent, key=lambda stage: self.spent[stage]))


_open: ContextVar[Budget | None] = ContextVar("budget", default=None)


def spend(steps: int, stage: Stage) -> None:
    """Take steps of the budget that is open, if one is. Raises OverBudget."""
    budget = _open.get()
    if budget is not None:
        budget.spend(steps, stage)


def afford(steps: int, stage: Stage) -> bool:
    """Take steps for what may be left out, if half of the budget stays; whether they were taken."""
    budget = _open.get()
    if budget is None:
        return True
    if 2 * (budget.left - steps) < budget.allowed:
        return False
    budget.spend(steps, stage)
    return True


@contextmanager
def limited(*, anew: bool = False) -> Iterator[None]:
    """Open a budget of MAX_WORK, unless one is open; anew: even then, for a request to a server."""
    if _open.get() is not None and not anew:
        yield
        return
    with Budget(MAX_WORK).opened():
        yield


def share(part: float) -> Budget:
    """A budget of a part of MAX_WORK, that takes of the one that is open, if one is, too."""
    return Budget(round(part * MAX_WORK), _open.get())


@contextmanager
def unlimited() -> Iterator[None]:
    """Count nothing: for a server, whose requests have budgets of their own."""
    token = _open.set(None)
    try:
        yield
    finally:
        _open.reset(token)


def allow(tokens: int) -> None:
    """Raise the budget that is open for a sequence as long as the user asks for."""
    budget = _open.get()
    if budget is not None and tokens > _USUAL:
        allowed = max(budget.allowed, MAX_WORK * tokens // _USUAL)
        budget.left += allowed - budget.allowed
        budget.allowed = allowed
