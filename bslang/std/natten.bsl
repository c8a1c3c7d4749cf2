# Neighbourhood attention along one dimension: each query sees k keys, also at the edges.
# Source: NATTEN's na1d; Neighborhood Attention Transformer (Hassani 2023, 3.1).
# k: how many keys, 7 along each axis in its models.
natten(k = 7t) = window(k, clamp=true)

# Dilated neighbourhood attention: each query sees k keys at a distance, also at the edges.
# Source: Dilated Neighborhood Attention Transformer (Hassani 2022).
# k: how many keys; gap: their distance, which the models vary from layer to layer.
natten_dilated(k = 7t, gap = 2t) = window(k, step=gap, clamp=true)

# Neighbourhood attention on an image: each query sees k x k keys, also at the edges.
# Source: NATTEN's na2d; Neighborhood Attention Transformer (Hassani 2023, 3.1).
# h, w: size of the image, that of the first stage for images of 224 x 224; k: side of the
# neighbourhood, odd, a plain number.
natten2d(h = 56t, w = 56t, k = 7) = grid(h, w, radius=k // 2, clamp=true)

# Neighbourhood attention on a video: each query sees k x k x k keys, also at the edges.
# Source: NATTEN's na3d.
# t, h, w: frames and size of a frame, here those of the first stage of Video Swin, for 16 frames of
# 224 x 224; k: side of the neighbourhood, odd, a plain number. With `order tiles(8, 56, 56; 4, 4, 4)` in
# the file, or `--order`, it visits a third of the blocks.
natten3d(t = 8t, h = 56t, w = 56t, k = 7) = grid(t, h, w, radius=k // 2, clamp=true)
