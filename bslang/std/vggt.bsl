# Layers in which each frame sees itself take turns with layers in which all frames see one another.
# Source: VGGT (Wang 2025, 3.2), alternating attention.
# f: tokens of a frame: 37 x 37 patches, one camera token and 4 registers.
vggt(f = 1374t) = chunks(f) | {i, j : layer % 2 == 1}
