# Sinks, a window, and keys at distances of 1, 2, 4, 8, ... blocks.
# Source: PowerAttention (Chen 2025, 3).
# s: blocks kept in front; w: blocks of the window, the query's own included.
power(s = 2, w = 3) = (cols(0:s) | last(w) | logsparse) & last(inf)
