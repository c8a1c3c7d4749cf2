# Neighbourhood attention along one dimension: each query sees k keys, also at the edges.
# Source: NATTEN's na1d; Neighborhood Attention Transformer (Hassani 2023, 3.1).
# k: how many keys.
natten(k = 3) = window(k, clamp=true)

# Dilated neighbourhood attention: each query sees k keys at a distance, also at the edges.
# Source: Dilated Neighborhood Attention Transformer (Hassani 2022).
# k: how many keys; gap: their distance.
natten_dilated(k = 3, gap = 2) = window(k, step=gap, clamp=true)

# Neighbourhood attention on an image: each query sees k x k keys, also at the edges.
# Source: NATTEN's na2d; Neighborhood Attention Transformer (Hassani 2023, 3.1).
# h, w: size of the image; k: side of the neighbourhood, odd.
natten2d(h = 3, w = 4, k = 3) = grid(h, w, radius=k // 2, clamp=true)

# Neighbourhood attention on a video: each query sees k x k x k keys, also at the edges.
# Source: NATTEN's na3d.
# t, h, w: frames and size of a frame; k: side of the neighbourhood, odd.
natten3d(t = 3, h = 2, w = 2, k = 3) = grid(t, h, w, radius=k // 2, clamp=true)
