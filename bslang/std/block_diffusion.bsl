# A noised copy of a sequence, then a clean one, both in blocks that are denoised one by one.
# Source: Block Diffusion (Arriola 2025, 3.2), the mask of vectorised training.
# b: length of a block of the diffusion. Of 2L blocks, the first L are the noised copy.
block_diffusion(b = 2) = _own(b) | _earlier(b) | _clean(b)

# Noised tokens see their own noised block,
_own(b) = {i, j : i < n // 2 & j < n // 2 & i // b == j // b}

# and the clean blocks before it.
_earlier(b) = {i, j : i < n // 2 <= j & (j - n // 2) // b < i // b}

# Clean tokens see their own clean block and those before it.
_clean(b) = {i, j : n // 2 <= i & n // 2 <= j & (j - n // 2) // b <= (i - n // 2) // b}
