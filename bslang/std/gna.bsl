# Generalized neighborhood attention: the queries of a tile share the window of the one in its middle.
# Source: Generalized Neighborhood Attention (Hassani 2025, 3); NATTEN's na1d with stride.
# w: length of the window; s: stride, the length of a tile.
gna1d(w = 7, s = 4) = {i, j : 0 <= j - min(max(i // s * s + s // 2 - w // 2, 0), n - w) < w}

# Causal generalized neighborhood attention: a tile shares the window that ends with its last query.
# Source: Generalized Neighborhood Attention (Hassani 2025, 3); NATTEN's na1d with stride, is_causal.
# w: length of the window; s: stride, the length of a tile.
gna1d_causal(w = 8, s = 3) = {i, j : j <= i & min(i // s * s + s - 1, n - 1) - w < j}

# Generalized neighborhood attention on an image.
# Source: Generalized Neighborhood Attention (Hassani 2025, 3); NATTEN's na2d with stride.
# h, w: size of the image; kh, kw: of the window; sh, sw: strides, the sides of a tile.
gna2d(h = 6, w = 8, kh = 4, kw = 5, sh = 2, sw = 3) = (
    {i, j : 0 <= j // w - min(max(i // w // sh * sh + sh // 2 - kh // 2, 0), h - kh) < kh}
    & {i, j : 0 <= j % w - min(max(i % w // sw * sw + sw // 2 - kw // 2, 0), w - kw) < kw}
)

# Generalized neighborhood attention on a video, in tokens: a tile shares the window of its middle.
# Source: Generalized Neighborhood Attention (Hassani 2025, 3); NATTEN's na3d with stride.
# t, h, w: size of the video; kt, kh, kw: of the window; st, sh, sw: strides, the sides of a tile. With
# `order tiles(30, 48, 80; 6, 8, 8)` in the file, or `--order`, the tokens of a tile lie together.
gna3d(t = 30, h = 48, w = 80, kt = 18, kh = 24, kw = 24, st = 6, sh = 8, sw = 8) = (
    {q, k :
        0 <= k // (h * w) - min(max(q // (h * w) // st * st + st // 2 - kt // 2, 0), t - kt) < kt
    }
    & {q, k : 0 <= k // w % h - min(max(q // w % h // sh * sh + sh // 2 - kh // 2, 0), h - kh) < kh}
    & {q, k : 0 <= k % w - min(max(q % w // sw * sw + sw // 2 - kw // 2, 0), w - kw) < kw}
)
