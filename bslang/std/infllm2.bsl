# The first block, the latest blocks, and those that compressed keys choose.
# Source: InfLLM-V2 (Zhao 2025). `bslang.select.compressed` makes `pick`, with pool="max" and
# top=96 blocks, the first and the latest included.
# b: tokens of a block; local: how many latest blocks, the query's own included, 2048 tokens here.
infllm2(b = 64t, local = 32) = (
    (select(pick, rows=1t, cols=b) | cols(0:b) | chunks(b, back=local - 1)) & causal
)

# InfLLM-V2 as MiniCPM4 runs it, on sequences of more than `dense` tokens; shorter ones are dense.
# Source: MiniCPM4 (2025, 2.2), its configuration (`dense_len`).
# b: tokens of a block; local: how many latest blocks; dense: up to how many keys all are seen.
minicpm4(b = 64t, local = 32, dense = 8192t) = (
    infllm2(b=b, local=local) | {q, k : k <= q & len_k < dense}
)
