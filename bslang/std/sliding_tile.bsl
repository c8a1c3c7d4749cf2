# Sliding tile attention on a video: a window of whole tiles, each tile one block of tokens.
# Source: Fast Video Generation with Sliding Tile Attention (Zhang 2025, 3.2).
# t, h, w: tiles along each side, 30 x 48 x 80 tokens of HunyuanVideo in tiles of 6 x 8 x 8, so that a
# tile is a block of 384 tokens (`--block 384`); rt, rh, rw: tiles seen to each side of the query's own.
sliding_tile(t = 5, h = 6, w = 10, rt = 1, rh = 1, rw = 1) = grid(
    t, h, w, radius=(rt, rh, rw), clamp=true
)
