# Each query sees its own stretch of the sequence and the summary columns of all stretches.
# Source: Sparse Transformer (Child 2019, 4.3), the fixed pattern; OpenAI's blocksparse `fixed`.
# s: length of a stretch; c: summary columns at the end of each, further to the left for each head. The
# numbers are the paper's for Enwik8.
fixed(s = 128t, c = 8t) = (
    (chunks(s) | {q, k : 0 <= k % s - (s - c * (1 + head % (s // c))) < c}) & causal
)

# Each query sees the keys at distances 0, s, 2s, ...: the second head of the strided pattern.
# Source: Sparse Transformer (Child 2019, 4.3); OpenAI's blocksparse `strided`.
# s: the distance, 128 tokens for CIFAR-10.
strided_head(s = 128t) = strided(s) & causal

# Each query sees the keys at a distance of at most e: the first head of the strided pattern.
# Source: Sparse Transformer (Child 2019, 4.3); OpenAI's blocksparse `local`.
# e: the distance, 128 tokens for CIFAR-10.
local_head(e = 128t) = window(left=e, right=0) & causal

# The strided pattern as one: even heads see the latest s keys, odd ones every s-th.
# Source: Sparse Transformer (Child 2019, 4.2 and 4.3).
# s: the distance, 128 tokens for CIFAR-10.
strided_pattern(s = 128t) = heads { 0::2 -> last(s) & causal; 1::2 -> strided(s) & causal }
