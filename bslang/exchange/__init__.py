"""Layouts as masks of other libraries, and such masks as layouts."""
