# Sliding tile attention on a video: a window of whole tiles, each tile one block of tokens.
# Source: Fast Video Generation with Sliding Tile Attention (Zhang 2025, 3.2).
# t, h, w: tiles along each side, 30 x 48 x 80 tokens of HunyuanVideo in tiles of 6 x 8 x 8, so that a
# tile is a block of 384 tokens (`--block 384`); rt, rh, rw: tiles seen to each side of the query's own.
sliding_tile(t = 5, h = 6, w = 10, rt = 1, rh = 1, rw = 1) = grid(
    t, h, w, radius=(rt, rh, rw), clamp=true
)

# Sliding tile attention in tokens, for blocks of any size: each query sees whole tiles around its own.
# Source: Fast Video Generation with Sliding Tile Attention (Zhang 2025, 3.2).
# t, h, w: tokens along each side; a, b, c: those of a tile, which divide them; rt, rh, rw: tiles seen to
# each side of the query's own. A file with `order tiles(30, 48, 80; 6, 8, 8)`, or `--order`, and blocks
# that divide a tile, such as 128, make every block full or empty.
sliding_tile_tokens(t = 30, h = 48, w = 80, a = 6, b = 8, c = 8, rt = 1, rh = 1, rw = 1) = (
    {q, k : abs(k // (h * w * a) - min(max(q // (h * w * a), rt), t // a - 1 - rt)) <= rt}
    & {q, k :
        abs(k // (w * b) % (h // b) - min(max(q // (w * b) % (h // b), rh), h // b - 1 - rh)) <= rh
    }
    & {q, k : abs(k // c % (w // c) - min(max(q // c % (w // c), rw), w // c - 1 - rw)) <= rw}
)
