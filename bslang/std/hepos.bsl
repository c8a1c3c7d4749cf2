# Each head sees every s-th key, from another start: for attention to a long source.
# Source: Efficient Attentions for Long Document Summarization (Huang 2021), head-wise positional
# strides, in encoder-decoder attention (`align="start"`).
# s: distance of the keys, in blocks; 4 in the paper, of one token each (`--block 1`).
hepos(s = 4) = every(s, offset=head)
