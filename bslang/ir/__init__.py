"""What was meant: patterns, the grids they cover, sets of blocks as runs, and token predicates."""
