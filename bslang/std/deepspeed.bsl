# The layouts of DeepSpeed's sparse attention. They are made of whole blocks: those for decoders are
# causal by block, and a layout that must be causal to the token is `... & causal`. All parameters count
# blocks, of 16 tokens unless DeepSpeed is told otherwise (`--block 16`), and have its defaults.

# Chunks, and summary columns at the end of each that everybody sees.
# Source: DeepSpeed's FixedSparsityConfig (attention="bidirectional").
# local: num_local_blocks; summary: num_global_blocks; patterns: num_different_global_patterns, of
# which the heads take one after the other, each further to the left.
fixed(local = 4, summary = 1, patterns = 1) = chunks(local) | _summaries(local, summary, patterns)

# Chunks, and summary columns and rows: these see everybody, and everybody sees them.
# Source: DeepSpeed's FixedSparsityConfig (horizontal_global_attention=True).
# local, summary, patterns: as for `fixed`.
fixed_horizontal(local = 4, summary = 1, patterns = 1) = (
    chunks(local) | _summaries(local, summary, patterns) | _summaries(local, summary, patterns).T
)

# Chunks and summary columns for decoders.
# Source: DeepSpeed's FixedSparsityConfig (attention="unidirectional"). There the blocks of a summary
# also see one another, which decoders mask away.
# local, summary, patterns: as for `fixed`.
fixed_causal(local = 4, summary = 1, patterns = 1) = fixed(local, summary, patterns) & last(inf)

# The summary columns of every chunk. A short last chunk that ends before them gives its last ones.
_summaries(local, summary, patterns) = (
    {i, j : 0 <= j % local - (local - summary * (1 + head % patterns)) < summary}
    | {i, j :
        n - summary <= j < n - n % local + (local - summary * (1 + head % patterns)) & n % local > 0
    }
)

# A first chunk, then chunks of another length, a global block and a range of them.
# Source: DeepSpeed's VariableSparsityConfig (horizontal_global_attention=True).
# first, rest: local_window_blocks, where the last repeats; g: a global block; start, stop: a range
# of them, without its end.
variable(first = 4, rest = 4, g = 0, start = 0, stop = 0) = (
    chunks(first, rest) | global(g, start:stop)
)

# Chunks of given lengths and global columns for decoders.
# Source: DeepSpeed's VariableSparsityConfig (attention="unidirectional").
# first, rest, g, start, stop: as for `variable`.
variable_causal(first = 4, rest = 4, g = 0, start = 0, stop = 0) = (
    (chunks(first, rest) | cols(g, start:stop)) & last(inf)
)

# A window, leading global blocks, and random blocks anywhere.
# Source: DeepSpeed's BigBirdSparsityConfig (attention="bidirectional").
# w: num_sliding_window_blocks; r: num_random_blocks; g: num_global_blocks; seed: of the draw.
bigbird(w = 3, r = 1, g = 1, seed = 0) = window(w) | global(0:g) | random(r, seed=seed)

# A window, leading columns and random blocks for decoders: no block ahead of the query.
# Source: DeepSpeed's BigBirdSparsityConfig (attention="unidirectional").
# w, r, g, seed: as for `bigbird`.
bigbird_causal(w = 3, r = 1, g = 1, seed = 0) = (
    (window(w) | cols(0:g)) & last(inf) | random(r, seed=seed, within=last(inf))
)

# A window and two global blocks.
# Source: DeepSpeed's BSLongformerSparsityConfig, with two entries of global_block_indices.
# w: num_sliding_window_blocks; first, second: the global blocks.
bslongformer(w = 3, first = 0, second = 0) = window(w) | global(first, second)

# A sliding window for encoders.
# Source: DeepSpeed's LocalSlidingWindowSparsityConfig (attention="bidirectional").
# w: num_sliding_window_blocks, half of them, rounded down, to each side.
local(w = 3) = window(left=w // 2, right=w // 2)

# A sliding window for decoders: the half of it that is not ahead of the query.
# Source: DeepSpeed's LocalSlidingWindowSparsityConfig (attention="unidirectional").
# w: num_sliding_window_blocks.
local_causal(w = 3) = last(w // 2 + 1)
