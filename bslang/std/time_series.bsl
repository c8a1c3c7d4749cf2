# Variables one after the other: each token sees, in every variable, the times up to its own.
# Source: Timer-XL (Liu 2024, 3.2), TimeAttention; OpenLTM.
# T: tokens of a variable: 7 patches of 96 times in a context of 672.
time_attention(T = 7t) = {q, k : k % T <= q % T}

# Covariates, each causal by itself, and a target that sees them all.
# Source: Timer-XL (Liu 2024, 3.2), with covariates; OpenLTM. The target is the last variable.
# T: tokens of a variable.
time_covariate(T = 7t) = chunks(T) & causal | rows(-T:) & cols(0:-T)

# Events at irregular times: each sees those of the last s units of time.
# Source: Longformer (Beltagy 2020, 3.1), its causal window with time in the place of positions. The label
# `time`, an integer for each event, is passed at the call.
# s: length of the window, as times are counted.
time_window(s = 30) = {q, k : 0 <= time[q] - time[k] < s}
