# The pages of a cache whose keys can have the largest scores, and the latest page.
# Source: Quest (Tang 2024, 3). `bslang.select.bounds` makes `pick`, with cols=16.
# b: tokens of a page.
quest(b = 16t) = (select(pick, rows=1t, cols=b) | chunks(b)) & causal
