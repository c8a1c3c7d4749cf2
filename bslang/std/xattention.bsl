# Blocks with most of the mass of antidiagonal sums, the first block and the diagonal.
# Source: XAttention (Xu 2025, 2). `bslang.select.antidiagonal` makes `pick`, with stride=8 and mass=0.9.
# b: tokens of a block.
xattention(b = 128t) = (select(pick, rows=b, cols=b) | cols(0:b) | chunks(b)) & causal
