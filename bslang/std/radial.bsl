# Radial Attention: the further a frame is, the fewer of its tokens are seen; and the first frame.
# Source: Radial Attention (Li 2025, 4), its code for Wan 2.1 before it rounds to blocks,
# decay_factor 1.
# f: tokens of a frame, up to 255 of them; b: tokens that count as one in the code, its block.
radial_wan(f = 3600t, b = 128t) = _near(f, b) | _far(f, b) | cols(0:f)

# Radial Attention, and text in the end that sees all and that all see.
# Source: Radial Attention (Li 2025, 4), its code for HunyuanVideo before it rounds to blocks,
# decay_factor 1.
# f: tokens of a frame, up to 255 of them; b: as for `radial_wan`; t: tokens of text.
radial_hunyuan(f = 3600t, b = 128t, t = 256t) = _near(f, b) | _far(f, b) | global(-t:)

# A frame and those beside it,
_near(f, b) = {q, k : q // f == k // f | abs(q // f - k // f) == 1 & b < 2 ** (log2(f) + 1)}

# and all others, by the number g of binary digits of their distance in frames.
_far(f, b) = (
    _level(2, f, b)
    | _level(3, f, b)
    | _level(4, f, b)
    | _level(5, f, b)
    | _level(6, f, b)
    | _level(7, f, b)
    | _level(8, f, b)
)

# Both the tokens of a frame and the frames are thinned out.
_level(g, f, b) = {q, k :
    2 ** (g - 1) <= abs(q // f - k // f) < 2 ** g
    & abs(q // f - k // f) % max(b * 2 ** g // 2 ** (log2(f) + 1), 1) == 0
    & abs(q % f - k % f) <= max(2 ** (log2(f) + 1) // 2 ** g, b)
}
