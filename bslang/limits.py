"""Every limit of the compiler, by name.

A spec is data from someone else; these bound what one can cost. Each is reported
by its name when it is passed, with exit status 3 on the command line.
"""

MAX_FILE_BYTES = 400_000
"""Size of a spec file, in bytes."""

MAX_FILES = 64
"""Files that a spec imports, those that they import included."""

MAX_WORDS = 40_000
"""Names, numbers and signs in a spec file, comments left out."""

MAX_ERRORS = 100
"""Errors reported of one file; no more are looked for."""

MAX_NESTING = 100
"""Depth of a pattern or number: parentheses, operators and definitions, one inside another."""

MAX_TERMS = 10_000
"""Primitives, operators and numbers in one layout, definitions expanded."""

MAX_WORK = 250_000_000
"""Steps that a command, a compilation or a request of an editor may take for a spec, of about 10 ns each:
all of its stages together (bslang/budget.py). In proportion more for `--seq-len` beyond 65,536 tokens."""

MAX_NUMBER = 2**31 - 1
"""Largest integer in a spec; positions are 32-bit in the kernels."""

MAX_LENGTH = 2**30
"""Longest sequence, in tokens."""

MAX_BLOCK = 4096
"""Longest side of a block, in tokens."""

MAX_ORDER = 2**24
"""Tokens of a grid that an order of tokens may have."""

MAX_HEADS = 4096
"""Heads that `heads` can tell apart."""

MAX_RANKS = 4096
"""Ranks of a group that a sequence is placed on."""

MAX_LABELS = 8
"""Names of run-time labels in one file."""

MAX_SELECTIONS = 8
"""Names of selections in one file."""

MAX_TABLE_BYTES = 2**26
"""Size of a table's file, in bytes; a block takes one."""

MAX_CONFIG_BYTES = 2**24
"""Size of a configuration that is imported, in bytes."""

MAX_LAYERS = 1024
"""Layers of a model whose configuration is imported."""

MAX_RUNS = 50_000_000
"""Runs of blocks that lowering may hold for one layout at one length."""

MAX_MASK_WORK = 2**26
"""Token pairs that lowering may evaluate to settle blocks that only masks can settle."""

MAX_RESIDUALS = 12
"""Distinct token masks that get a loop of their own in a kernel; beyond it, masks are merged."""

MAX_DENSE = 2**27
"""Scores of the dense attention that a verification compares with: batch x heads x queries x keys."""
MAX_FOLLOWED = 1024
"""Blocks of a layout among which `stats` follows all paths; beyond, it follows those of a sample."""

MAX_EDGES = 2**18
"""Pairs of blocks that `graph` writes, and that `stats` looks at one by one; beyond, at a sample."""

MAX_RANGES = 2**20
"""Ranges that `Layout.to_ranges` writes."""

MAX_PAGE_BYTES = 5_000_000
"""Size of a page that `explorer` writes; settings that would make it larger are left out."""

MAX_PAGE_RUNS = 60_000
"""Runs of blocks in one picture of such a page; layouts with more are drawn as cells of many blocks."""

MAX_PAGE_ROWS = 2**18
"""Block rows of a layout that such a page draws."""
