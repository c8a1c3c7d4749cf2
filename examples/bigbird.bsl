# BigBird (Zaheer 2020): a window, global blocks, and random blocks.
block 64

# For encoders: every token sees blocks before and after it.
bigbird(r = 2, seed = 7) = window(3) | global(0, -1) | random(r, seed=seed)

# For language models: nothing sees a later token. The random blocks are drawn from the past only,
# and not where the window or the global block is already.
_near = last(3) | cols(0)
causal_bigbird(r = 2, seed = 7) = _near & causal | random(r, seed=seed, within=causal - _near)
