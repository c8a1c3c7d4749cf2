# Each query sees its row and its column of an image.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3).
# h, w: size of the image, 64 x 64 tokens as for the ImageNet models.
axial(h = 64t, w = 64t) = grid(h, w, radius=(0, inf)) | grid(h, w, radius=(inf, 0))

# Axial attention shared out: heads of even number see their row, the others their column.
# Source: Axial Attention in Multidimensional Transformers (Ho 2019, 3), a head for each axis.
# h, w: size of the image, 64 x 64 tokens as for the ImageNet models.
axial_heads(h = 64t, w = 64t) = heads {
    0::2 -> grid(h, w, radius=(0, inf));
    1::2 -> grid(h, w, radius=(inf, 0))
}
