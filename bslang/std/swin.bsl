# Windows that tile an image, shifted by `shift` down and to the right; no pair crosses the border.
# Source: Swin Transformer (Liu 2021, 3.2), the regular (shift 0) and the shifted windows.
# w: width of the image; side: of a window; shift: how far they move, half a side in the paper. The
# numbers, in tokens, are those of the first stage for images of 224 x 224: 56 x 56 tokens.
swin(w = 56t, side = 7t, shift = 3t) = (
    {q, k : (q // w + shift) // side == (k // w + shift) // side}
    & {q, k : (q % w + shift) // side == (k % w + shift) // side}
)
