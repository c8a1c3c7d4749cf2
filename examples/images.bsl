# An image of 28 x 28 pixels in tiles of 4 x 4: a block is a tile, and there are 7 x 7 of them.
block 16

# A tile sees the tiles around it, and as many at the border.
# Source: NATTEN's na2d (Hassani 2023, 3.1), over tiles as in sliding tile attention (Zhang 2025, 3.2).
neighbours(r = 1) = grid(7, 7, radius=r, clamp=true)

# A tile sees its row and its column.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3).
axial = grid(7, 7, radius=(0, inf)) | grid(7, 7, radius=(inf, 0))
