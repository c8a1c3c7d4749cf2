"""Layouts in other libraries, one folder each; each loads its library when it is imported."""
