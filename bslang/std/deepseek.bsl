# Heavily compressed attention: each query sees one entry for every run of tokens that is complete.
# Source: DeepSeek-V4 (2026), heavily compressed attention (`align="start"`; the keys are the entries).
# each: tokens of an entry.
hca(each = 128t) = {q, k : (k + 1) * each <= q + 1}

# The compression branch of native sparse attention: one entry for every window that is complete.
# Source: Native Sparse Attention (Yuan 2025, 3.3), by DeepSeek (`align="start"`; the keys are the
# entries).
# l: tokens of a window; d: from the start of one to that of the next.
nsa_compression(l = 32t, d = 16t) = {q, k : k * d + l <= q + 1}

# The selection branch of native sparse attention: blocks that the weights of compressed keys choose.
# Source: Native Sparse Attention (Yuan 2025, 3.3). `bslang.select.compressed` makes `pick`, with top=16
# blocks; the first block, the query's own and the one before are among them.
# b: tokens of a block.
nsa_selection(b = 64t) = select(pick, rows=1t, cols=b) & causal

# The window branch of native sparse attention.
# Source: Native Sparse Attention (Yuan 2025, 3.3).
# w: how many latest tokens are seen, the query's own included.
nsa_window(w = 512t) = last(w)

# DeepSeek sparse attention: the tokens that a lightning indexer chooses, the same for all heads.
# Source: DeepSeek-V3.2 (2025, 2.1). `bslang.select.indexer` makes `pick`, with top=2048 tokens.
dsa = select(pick, rows=1t, cols=1t) & causal
