# Up to two intervals of queries that each key is hidden from, which come with the call.
# Source: FlashMask (Wang 2024, 3.1), its four vectors as labels of the keys: key k is hidden from queries
# lts[k] to lte[k] - 1, and uts[k] to ute[k] - 1.
flashmask = ~{q, k : lts[k] <= q < lte[k] | uts[k] <= q < ute[k]}

# The same with no key after its query, and one interval.
# Source: FlashMask (Wang 2024, 3.1).
flashmask_causal = causal - {q, k : lts[k] <= q < lte[k]}
