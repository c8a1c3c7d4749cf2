# A window, and the first tokens global.
# Source: Longformer (Beltagy 2020, 3.1).
# w: width of the window, odd; g: how many are global.
longformer(w = 3, g = 1) = window(w) | global(0:g)

# A window with gaps: it reaches further at the same cost.
# Source: Longformer (Beltagy 2020, 3.1), the dilated sliding window; also attention-gym's
# dilated_sliding_window.
# w: how many are seen, odd; gap: their distance.
dilated(w = 5, gap = 2) = window(w, step=gap)
