# The latest blocks, and every `vert`th block before them, another for each head.
# Source: Phi-3 (Abdin 2024, 2), blocksparse attention of Phi-3-small.
# local: how many of the latest, 16 in the model; vert: distance of the others, 8 there; count:
# heads of a layer, 32 there; they shift the others by `vert // count` each, at least by 1.
phi3(local = 4, vert = 3, count = 1) = (
    (last(local) | every(vert, offset=-1 - head * max(vert // count, 1))) & causal
)
