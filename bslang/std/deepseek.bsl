# Heavily compressed attention: each query sees one entry for every run of tokens that is complete.
# Source: DeepSeek-V4 (2026), heavily compressed attention (`align="start"`; the keys are the entries).
# each: tokens of an entry.
hca(each = 128t) = {q, k : (k + 1) * each <= q + 1}

# The compression branch of native sparse attention: one entry for every window that is complete.
# Source: Native Sparse Attention (Yuan 2025, 3.3), by DeepSeek (`align="start"`; the keys are the
# entries).
# l: tokens of a window; d: from the start of one to that of the next.
nsa_compression(l = 32t, d = 16t) = {q, k : k * d + l <= q + 1}
