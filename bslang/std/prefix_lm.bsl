# A prefix that sees all of itself, and causal attention after it.
# Source: T5 (Raffel 2019, 3.2.1); UniLM (Dong 2019), the mask of sequence to sequence.
# p: length of the prefix.
prefix_lm(p = 3) = cols(0:p) | causal
