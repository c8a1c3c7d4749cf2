# Tiles with most of the mass of pooled attention, and a window of tiles around each.
# Source: NABLA (Mikhailov 2025), as Kandinsky 5 runs it. `bslang.select.pooled` makes `pick`, with
# mass=0.9 and causal=False. The tokens of a tile, 8 x 8 of a frame, are a block of 64.
# t, h, w: tiles along each side; rt, rh, rw: tiles of the window to each side of the query's own.
nabla(t = 31, h = 4, w = 6, rt = 5, rh = 1, rw = 1) = (
    select(pick) | grid(t, h, w, radius=(rt, rh, rw))
)
