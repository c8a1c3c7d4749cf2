"""Libraries that only some ways out need, imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def optional(module: str) -> Any:
    """Import a module of the extra `exchange`. Raises ImportError that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        message = f"{library} is not installed; `pip install 'bslang[exchange]'` has it"
        raise ImportError(message) from None
