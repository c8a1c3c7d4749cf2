# A window, the first and the last block global, and random blocks outside of both.
# Source: BigBird (Zaheer 2020, 2), internal construction (ITC), as transformers' BigBird runs it.
# w: width of the window, odd; r: random blocks per row; seed: of their draw. The numbers are those of
# BigBird base, in blocks of 64.
bigbird(w = 3, r = 3, seed = 0) = (
    window(w) | global(0, -1) | random(r, seed=seed, within=~(window(w) | global(0, -1)))
)

# A window, extra global tokens in front, and random blocks outside of both.
# Source: BigBird (Zaheer 2020, 2), extended construction (ETC).
# g: how many are global; w: width of the window, odd; r: random blocks per row; seed: of their draw.
# They count blocks, of 64 in the paper.
bigbird_etc(g = 2, w = 3, r = 3, seed = 0) = (
    window(w) | global(0:g) | random(r, seed=seed, within=~(window(w) | global(0:g)))
)
