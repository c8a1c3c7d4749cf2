"""Values of a configuration, each checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bslang.errors import BslangError, shortened
from bslang.limits import MAX_NUMBER


class ConfigError(BslangError):
    """A configuration that is wrong, or that no spec can stand for."""


def shown(value: object, room: int = 100) -> str:
    """A value for a message or a comment: as JSON, on one line, in ASCII."""
    return shortened(json.dumps(value), room)


@dataclass(frozen=True)
class Values:
    """A JSON object. Each reader takes the default of a key that is missing; all raise ConfigError."""

    values: Mapping[str, object]

    @classmethod
    def of(cls, value: object, key: str) -> Values:
        """The values of a section, which must be an object."""
        if not isinstance(value, dict):
            raise ConfigError(f"`{key}` must be an object, {{...}}, not {shown(value)}")
        return cls(value)

    def number(self, key: str, default: int, least: int = 0, most: int = MAX_NUMBER) -> int:
        """A whole number from `least` to `most`."""
        value = self.values.get(key, default)
        if not _is_number(value, least, most):
            raise ConfigError(f"`{key}` must be {_numbers(least, most)}, not {shown(value)}")
        assert isinstance(value, int)
        return value

    def optional(self, key: str, default: int | None) -> int | None:
        """A whole number above 0; None for null, and for 0, which stands for it in some files."""
        value = self.values.get(key, default)
        if value is None or (value == 0 and not isinstance(value, bool)):
            return None
        return default if value is default else self.number(key, 0, 1)

    def numbers(self, key: str, default: Sequence[int], least: int = -MAX_NUMBER) -> list[int]:
        """A list of whole numbers from `least` on."""
        value = self.values.get(key, default)
        if not isinstance(value, list) or not all(_is_number(one, least) for one in value):
            every = _numbers(least, MAX_NUMBER).replace("a whole number", "whole numbers")
            raise ConfigError(f"`{key}` must be a list of {every}, not {shown(value)}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; null is false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool | None):
            raise ConfigError(f"`{key}` must be true or false, not {shown(value)}")
        return bool(value)

    def choice(self, key: str, default: str, among: Sequence[str]) -> str:
        """One of some words."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in among:
            words = ", ".join(map(shown, among))
            raise ConfigError(f"`{key}` must be one of {words}, not {shown(value)}")
        return value


def _is_number(value: object, least: int, most: int = MAX_NUMBER) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _numbers(least: int, most: int) -> str:
    if most < MAX_NUMBER:
        return f"a whole number from {least} to {most}"
    return "a whole number" if least < 0 else f"a whole number of at least {least}"
