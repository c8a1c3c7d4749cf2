# Mixture of Attention: a window that grows with the length, and the first block.
# Source: MoA (Fu 2024, 3), one head; it fits a and p / d to each head, in blocks of 64.
# a: blocks of the window at any length; p, d: it grows by p / d of the blocks of the sequence.
moa(a = 2, p = 1, d = 5) = cols(0) | last(max(1, a + n * p // d))
