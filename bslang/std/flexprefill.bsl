# Query-aware heads: blocks with most of the mass of pooled attention, the first block and the diagonal.
# Source: FlexPrefill (Lai 2025, algorithm 4). `bslang.select.pooled` makes `pick`, with rows=128,
# cols=128, mass=0.95 and over="head". Its other heads are `minference.bsl:vertical_slash`.
# b: tokens of a block.
flexprefill(b = 128t) = (select(pick, rows=b, cols=b) | cols(0:b) | chunks(b)) & causal
