# Star Attention: chunks of context that also see an anchor, and a query in the end that sees all.
# Source: Star Attention (Acharya 2024, 2), both phases as one mask.
# c: length of a chunk; a: length of the anchor in front, at most c; u: length of the query. The paper
# has chunks of a quarter of the context, 4096t of 16k, and an anchor as long as they are.
star(c = 4096t, a = 4096t, u = 128t) = (chunks(c) | cols(0:a) | rows(-u:)) & causal
