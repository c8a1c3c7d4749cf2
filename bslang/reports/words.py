"""Numbers in words, as reports print them."""

from __future__ import annotations

Line = tuple[str, str]
"""What is said of, and what."""


def percent(share: float) -> str:
    """With two decimals, or the first digit of what would round to nothing."""
    return f"{share:.2%}" if share == 0 or share >= 5e-5 else f"{100 * share:.0g}%"


def plural(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def size(count: int) -> str:
    unit = next((i for i in range(4) if count < 1000 * 1024**i), 4)
    return f"{count / 1024**unit:,.2f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def seconds(seconds: float) -> str:
    unit = next((i for i, least in enumerate((1, 1e-3)) if seconds >= least), 2)
    return f"{seconds * 1000**unit:.3g} {('s', 'ms', 'us')[unit]}"
