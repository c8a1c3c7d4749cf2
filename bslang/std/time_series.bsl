# Variables one after the other: each token sees, in every variable, the times up to its own.
# Source: Timer-XL (Liu 2024, 3.2), TimeAttention; OpenLTM.
# T: tokens of a variable: 7 patches of 96 times in a context of 672.
time_attention(T = 7t) = {q, k : k % T <= q % T}

# Covariates, each causal by itself, and a target that sees them all.
# Source: Timer-XL (Liu 2024, 3.2), with covariates; OpenLTM. The target is the last variable.
# T: tokens of a variable.
time_covariate(T = 7t) = chunks(T) & causal | rows(-T:) & cols(0:-T)
