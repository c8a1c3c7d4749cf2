# The blocks that the largest scores of an indexer choose, for each group of query heads.
# Source: MiniMax's sparse attention (2026). `bslang.select.indexer` makes `pick`, with cols=128,
# activation="identity", scope="query" and top=16 blocks.
# b: tokens of a block.
msa(b = 128t) = select(pick, rows=1t, cols=b) & causal
