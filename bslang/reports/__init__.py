"""Answers of commands and of a layout's methods, as objects: `show`, `stats`, `why`, the explorer's page."""
