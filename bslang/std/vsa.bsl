# Video sparse attention, its fine stage: tiles of queries see the tiles that a coarse stage chooses.
# Source: VSA (Zhang 2025, 2.2). `bslang.select.pooled` makes `pick`, with causal=False. The tokens of a
# tile, 4 x 4 x 4 of a video, lie beside one another: with `order tiles(16, 32, 32; 4, 4, 4)` in the file,
# or `--order`, `Layout.permute` puts them so.
# b: tokens of a tile.
vsa(b = 64t) = select(pick, rows=b, cols=b)
