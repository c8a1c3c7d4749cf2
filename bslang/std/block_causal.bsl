# Chunks that see themselves and every chunk before them: video that is generated chunk by chunk.
# Source: CausVid (Yin 2024, 3.2); Self-Forcing (Huang 2025, 3).
# c: length of a chunk: 3 frames of Wan 2.1 at 480p, 1560 tokens each.
block_causal(c = 4680t) = chunks(c, back=inf)

# A first chunk of another length: the image that a video starts from.
# Source: Self-Forcing (Huang 2025), its code for image to video.
# f: length of the first chunk, a frame; c: of the others.
block_causal_i2v(f = 1560t, c = 4680t) = chunks(f, c, back=inf)

# A robot's prefix of images and words, its state, and its actions: each sees what comes before it.
# Source: pi0 (Black 2024, 4); openpi, where a prefix has 3 images of 256 tokens and 48 words.
# p: length of the prefix; s: of the state; h: of the actions, up to the end.
pi0(p = 816t, s = 1t, h = 50t) = chunks(p, s, h, back=inf)

# Streaming speech: chunks that see themselves and some chunks before them.
# Source: WeNet's U2 (Zhang 2020, 2.2), chunk-based attention, decoding_chunk_size 16.
# c: length of a chunk; left: how many chunks before, or inf for all.
asr_chunks(c = 16t, left = 4) = chunks(c, back=left)

# Stages of lengths that come with the call: each sees itself and the stages before it.
# Source: VAR (Tian 2024, 3.2), where they are the scales of an image. The label `stage`, a number for
# each token, is passed at the call.
stages = {q, k : stage[k] <= stage[q]}
