# Keys at distances that double: 0, 1, 2, 4, 8, ...
# Source: LogSparse Transformer (Li 2019, 4.2).
# base: ratio of each distance to the one before.
log_sparse(base = 2) = logsparse(base)

# All of the latest keys, and doubling distances counted from the last of these.
# Source: LogSparse Transformer (Li 2019, 4.2), local attention.
# w: how many of the latest; base: ratio of each distance to the one before.
log_sparse_local(w = 3, base = 2) = last(w) | diagonals(w - 1) @ logsparse(base)
