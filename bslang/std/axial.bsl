# Each query sees its row and its column of an image.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3).
# h, w: size of the image.
axial(h = 3, w = 4) = grid(h, w, radius=(0, inf)) | grid(h, w, radius=(inf, 0))

# Axial attention shared out: heads of even number see their row, the others their column.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3), a head for each axis.
# h, w: size of the image.
axial_heads(h = 3, w = 4) = heads {
    0::2 -> grid(h, w, radius=(0, inf));
    1::2 -> grid(h, w, radius=(inf, 0))
}
