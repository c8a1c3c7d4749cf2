# A window, and the first tokens global.
# Source: Longformer (Beltagy 2020, 3.1).
# w: width of the window, odd: the 512 tokens of the released models and the query itself; g: how many
# are global.
longformer(w = 513t, g = 1t) = window(w) | global(0:g)

# A window with gaps: it reaches further at the same cost.
# Source: Longformer (Beltagy 2020, 3.1), the dilated sliding window; also attention-gym's
# dilated_sliding_window.
# w: how many are seen, odd: 512 and the query itself; gap: their distance, 2t here; the paper grows it
# from layer to layer.
dilated(w = 513t, gap = 2t) = window(w, step=gap)

# Global tokens where the batch has them, as those of a question: they see all and all see them.
# Source: Longformer (Beltagy 2020, 3.1). The label `chosen`, 1 for global tokens and 0 for others, is
# passed at the call.
# w: width of the window, odd.
longformer_chosen(w = 513t) = window(w) | {q, k : chosen[q] == 1 | chosen[k] == 1}
