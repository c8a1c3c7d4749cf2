"""The numbers that say what fits what. docs/safety.md says when each of them changes."""

__version__ = "0.1.0"

LANGUAGE = 1
"""Version of the bsl language, the latest that is read; part of every digest."""

INTERFACE = 3
"""What generated modules ask of bslang.runtime; another number, and older ones are refused."""
