# Sliding tile attention on a video: a window of whole tiles, each tile one block of tokens.
# Source: Fast Video Generation with Sliding Tile Attention (Zhang 2025, 3.2).
# t, h, w: tiles along each side; rt, rh, rw: tiles seen to each side of the query's own.
sliding_tile(t = 3, h = 2, w = 2, rt = 1, rh = 1, rw = 1) = grid(
    t, h, w, radius=(rt, rh, rw), clamp=true
)
