# Segments, in each of which one of r positions sees the same ones; each head takes another.
# Source: LongNet (Ding 2023, 2.2 and 2.3), dilated attention.
# w: length of a segment; r: distance inside of it.
longnet_dilated(w = 6, r = 2) = segments(w, rate=r)

# Short segments whole and long ones sparse, for decoders: LongNet's mixture of two lengths.
# Source: LongNet (Ding 2023, 2.2 and 2.3); more lengths are joined by `|`.
# w1, r1: length and distance of the short ones; w2, r2: of the long ones.
longnet(w1 = 4, r1 = 1, w2 = 12, r2 = 3) = (segments(w1, rate=r1) | segments(w2, rate=r2)) & causal
