# Segments, in each of which one of r positions sees the same ones; each head takes another.
# Source: LongNet (Ding 2023, 2.2 and 2.3), dilated attention.
# w: length of a segment; r: distance inside of it, a plain number. The paper has the pairs 2048 and 1,
# 4096 and 2, 8192 and 4, 16384 and 6, 32768 and 12.
longnet_dilated(w = 4096t, r = 2) = segments(w, rate=r)

# Short segments whole and long ones sparse, for decoders: LongNet's mixture of two lengths.
# Source: LongNet (Ding 2023, 2.2 and 2.3); more lengths are joined by `|`.
# w1, r1: length and distance of the short ones; w2, r2: of the long ones. The first two pairs of the
# paper; `longnet_mixture` has all.
longnet(w1 = 2048t, r1 = 1, w2 = 4096t, r2 = 2) = (
    (segments(w1, rate=r1) | segments(w2, rate=r2)) & causal
)

# LongNet's mixture of five lengths, each sparser than the one before, for decoders.
# Source: LongNet (Ding 2023, 4.1), as it was trained.
# w: length of the shortest segments; the others are 2, 4, 8 and 16 times as long.
longnet_mixture(w = 2048t) = (
    (
        segments(w, rate=1)
        | segments(2 * w, rate=2)
        | segments(4 * w, rate=4)
        | segments(8 * w, rate=6)
        | segments(16 * w, rate=12)
    )
    & causal
)
