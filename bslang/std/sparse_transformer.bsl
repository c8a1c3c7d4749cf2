# Each query sees its own stretch of the sequence and the summary columns of all stretches.
# Source: Sparse Transformer (Child 2019, 4.3), the fixed pattern; OpenAI's blocksparse `fixed`.
# s: length of a stretch; c: summary columns at the end of each, further to the left for each head.
fixed(s = 4, c = 1) = (
    (chunks(s) | {i, j : 0 <= j % s - (s - c * (1 + head % (s // c))) < c}) & causal
)

# Each query sees the keys at distances 0, s, 2s, ...: the second head of the strided pattern.
# Source: Sparse Transformer (Child 2019, 4.3); OpenAI's blocksparse `strided`.
# s: the distance.
strided_head(s = 4) = strided(s) & causal

# Each query sees the keys at a distance of at most e: the first head of the strided pattern.
# Source: Sparse Transformer (Child 2019, 4.3); OpenAI's blocksparse `local`.
# e: the distance.
local_head(e = 1) = last(e + 1) & causal

# The strided pattern as one: even heads see the latest s keys, odd ones every s-th.
# Source: Sparse Transformer (Child 2019, 4.2 and 4.3).
# s: the distance.
strided_pattern(s = 4) = heads { 0::2 -> last(s) & causal; 1::2 -> strided(s) & causal }
