# Long time series, causal: three ways to look back, the first two at nearly the same cost.
block 32

# The latest w blocks.
recent(w = 8) = last(w) & causal

# Blocks at distances 0, 1, 2, 4, 8, ...: the cost grows with the logarithm of the length.
# Source: LogSparse Transformer (Li 2019, 4.2), here with blocks in place of single samples.
doubling = logsparse(2) & causal
