# The latest blocks, and every `vert`th block before them, another for each head.
# Source: Phi-3 (Abdin 2024, 2), blocksparse attention of Phi-3-small.
# local: how many of the latest; vert: distance of the others; count: heads of a layer, which shift the
# others by `vert // count` each, at least by 1. The numbers are those of the model, in blocks of 64.
phi3(local = 16, vert = 8, count = 32) = (
    (last(local) | every(vert, offset=-1 - head * max(vert // count, 1))) & causal
)
