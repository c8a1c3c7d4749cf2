# A chunk of video and the latest tokens before its end: local attention in training.
# Source: Self-Forcing (Huang 2025), the training mask of its code with local_attn_size.
# c: length of a chunk: 3 frames of 1560 tokens; local: tokens seen up to the end of the chunk, as many
# as 6 frames have.
self_forcing(c = 4680t, local = 9360t) = {q, k : 0 <= q // c * c + c - 1 - k < local | k == q}

# A chunk of video, the latest tokens before its end, and sinks in front: the rolling cache.
# Source: Self-Forcing (Huang 2025), the cache of its code with sink_size.
# c: length of a chunk; local: tokens seen, the sinks included; s: sinks, a frame here.
self_forcing_sink(c = 4680t, local = 9360t, s = 1560t) = {q, k :
    k < q // c * c + c & (k < s | k >= q // c * c + c - local + s)
}

# A clean copy of a video, then a noised one, whose chunks see the clean chunks before them.
# Source: Self-Forcing (Huang 2025), the mask of its code for teacher forcing; CausVid (Yin 2024).
# c: blocks of a chunk. Of 2L blocks, the first L are the clean copy; c divides L.
teacher_forcing(c = 3) = _clean(c) | _before(c) | _noised(c)

# Clean chunks see the clean chunks up to their own,
_clean(c) = {i, j : i < n // 2 & j < n // 2 & j // c <= i // c}

# noised chunks see the clean chunks before theirs
_before(c) = {i, j : j < n // 2 <= i & j // c < (i - n // 2) // c}

# and their own noised chunk.
_noised(c) = {i, j : n // 2 <= i & n // 2 <= j & (i - n // 2) // c == (j - n // 2) // c}
