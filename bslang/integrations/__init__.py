"""Layouts in other libraries, one file each; each loads its library when it is imported."""
