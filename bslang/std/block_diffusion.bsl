# A noised copy of a sequence, then a clean one, both in blocks that are denoised one by one.
# Source: Block Diffusion (Arriola 2025, 3.2), the mask of vectorised training.
# b: length of a block of the diffusion, 16t in the paper's largest. Of 2L tokens, the first L are the
# noised copy.
block_diffusion(b = 16t) = _own(b) | _earlier(b) | _clean(b)

# Noised tokens see their own noised block,
_own(b) = {q, k : q < len_q // 2 & k < len_k // 2 & q // b == k // b}

# and the clean blocks before it.
_earlier(b) = {q, k : q < len_q // 2 & len_k // 2 <= k & (k - len_k // 2) // b < q // b}

# Clean tokens see their own clean block and those before it.
_clean(b) = {q, k :
    len_q // 2 <= q & len_k // 2 <= k & (k - len_k // 2) // b <= (q - len_q // 2) // b
}
