# Sparse VideoGen's spatial heads: each frame sees itself, frames near it, and the first one.
# Source: Sparse VideoGen (Xi 2025, 3.2); attention-gym's sparse_video_gen.
# p: tokens of text in front; f: tokens of a frame; width: how many frames to each side; r: the window
# is a multiple of it; sink: how many first frames all see. A frame of CogVideoX has 30 x 45 tokens.
svg_spatial(p = 226t, f = 1350t, width = 2, r = 128t, sink = 1) = (
    window(left=width * f // r * r - 1t, right=width * f // r * r - 1t)
    | global(0:p)
    | cols(0:p + f * sink)
)

# Sparse VideoGen's temporal heads: each token sees the tokens near its place, in every frame.
# Source: Sparse VideoGen (Xi 2025, 3.2); attention-gym's sparse_video_gen.
# p: tokens of text in front; f: tokens of a frame; F: how many frames; width: how far, in frames that
# are shared out among all of them.
svg_temporal(p = 226t, f = 1350t, F = 13, width = 2) = (
    {q, k : abs((q - p) % f - (k - p) % f) < width * f // F} | global(0:p)
)

# Sparse VideoGen's temporal heads as its code runs them: a band, once tokens are sorted by place.
# Source: Sparse VideoGen (Xi 2025, 4), whose code rounds w to 128.
# p: tokens of text in front; f: tokens of a frame; F: how many frames; w: width of the band to each
# side, the token's own place included.
svg_temporal_band(p = 226t, f = 1350t, F = 13, w = 2688t) = (
    {q, k : abs((q - p) % f * F + (q - p) // f - (k - p) % f * F - (k - p) // f) < w} | global(0:p)
)
