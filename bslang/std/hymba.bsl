# Meta tokens that all see, and a sliding window.
# Source: Hymba (Dong 2024, 2.3 and 2.4), its local layers.
# meta: how many meta tokens in front; w: tokens seen before the query's own.
hymba(meta = 128t, w = 1024t) = (cols(0:meta) | window(left=w, right=0)) & causal
