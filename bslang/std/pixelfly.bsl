# A butterfly of blocks, and global blocks in place of its low-rank part.
# Source: Pixelated Butterfly (Dao 2021, 3.2 and 3.3).
# k: how many of the butterfly's distances 1, 2, 4, ...; g: how many are global. Both
# count blocks.
pixelfly(k = 3, g = 1) = butterfly(k) | global(0:g)
