# Windows that tile an image, shifted by `shift` down and to the right; no pair crosses the border.
# Source: Swin Transformer (Liu 2021, 3.2), the regular (shift 0) and the shifted windows.
# w: width of the image; side: of a window; shift: how far they move, half a side in the paper.
swin(w = 4, side = 2, shift = 1) = (
    {i, j : (i // w + shift) // side == (j // w + shift) // side}
    & {i, j : (i % w + shift) // side == (j % w + shift) // side}
)
