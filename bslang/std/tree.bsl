# Trees of tokens or of segments whose shape comes with the call: `bslang.tree` makes the labels `tin` and
# `tout` of the parents.

# Several answers to one prompt in one row, or conversations that branch: a token sees what leads to it.
# Source: Prefix Grouper (Liu 2025, 3); SpecInfer (Miao 2024, 4.2). `bslang.tree(parents, segments)`,
# where segments has the segment of each token; position ids count from the root.
answers = {q, k : tin[k] <= tin[q] < tout[k]} & causal

# Drafts of speculative decoding: each token sees the tokens on its way to the root, and itself.
# Source: SpecInfer (Miao 2024, 4.2); Medusa (Cai 2024, 2.1.2). `bslang.tree(parents)`, where the tokens of
# the context are a chain, and parents may come in any order.
draft_tree = {q, k : tin[k] <= tin[q] < tout[k]}

# The same by a matrix of all drafts and keys, as decoders build it.
# Source: Medusa (Cai 2024, 2.1.2). `tree` is bool (batch or 1, 1, len_q, len_k).
draft_matrix = select(tree, rows=1t, cols=1t)
