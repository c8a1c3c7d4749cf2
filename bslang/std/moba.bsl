# Mixture of block attention: each query sees its own block, and those that a gate chooses.
# Source: MoBA (Lu 2025, 2.2). `bslang.select.pooled` makes `pick`, with rows=1 and top=3 blocks, the
# query's own included.
# b: tokens of a block.
moba(b = 512t) = (select(pick, rows=1t, cols=b) | chunks(b)) & causal
