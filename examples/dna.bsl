# DNA, both strands in one sequence: a stretch of n/2 blocks, then its reverse complement. Token p of
# the one pairs with token N - 1 - p of the other, where N is the number of tokens.
block 64

# Each strand sees what lies near on itself.
own_strand(w = 5) = window(w)

# And what lies near on the other: blocks on the anti-diagonal. Reaching r blocks to each side of it
# costs 2 r + 1 blocks a row.
both_strands(w = 3, r = 1) = window(w) | {i, j : abs(i + j - (n - 1)) <= r}
