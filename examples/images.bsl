# An image of 32 x 32 pixels in tiles of 4 x 4: a block is a tile, and there are 8 x 8 of them.
block 16

# A tile sees the tiles around it, and as many at the border.
# Source: NATTEN's na2d (Hassani 2023, 3.1), over tiles as in sliding tile attention (Zhang 2025, 3.2).
neighbours(r = 1) = grid(8, 8, radius=r, clamp=true)

# A tile sees its row and its column.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3).
axial = grid(8, 8, radius=(0, inf)) | grid(8, 8, radius=(inf, 0))
