# A prefix that sees all of itself, and causal attention after it.
# Source: T5 (Raffel 2019, 3.2.1); UniLM (Dong 2019), the mask of sequence to sequence.
# p: length of the prefix, 512 tokens for the inputs of T5.
prefix_lm(p = 512t) = cols(0:p) | causal

# A prefix of another length in each row of the batch.
# Source: T5 (Raffel 2019, 3.2.1). The label `prefix`, a number of tokens for each row, is passed at the
# call.
prefix_rows = causal | {q, k : k < prefix[b]}
