# Prefill: blocks that a learned gate chooses, and the diagonal.
# Source: SeerAttention (Gao 2024, 3). `bslang.select.top` or `mass` makes `pick` of the gate's scores.
# b: tokens of a block.
seer(b = 64t) = (select(pick, rows=b, cols=b) | chunks(b)) & causal

# Decoding: each query sees the blocks that a learned gate chooses for its group, and its own.
# Source: SeerAttention-R (Gao 2025, 2). `bslang.select.top` or `mass` makes `pick`, with rows=1.
# b: tokens of a block.
seer_decode(b = 64t) = (select(pick, rows=1t, cols=b) | chunks(b)) & causal
