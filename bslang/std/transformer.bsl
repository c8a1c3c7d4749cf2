# The two masks of the first Transformer, to combine with others and to compare them with.

# Every query sees every key.
# Source: Attention Is All You Need (Vaswani 2017, 3.2.3), the encoder.
encoder = all

# Every query sees itself and all keys before it, to the token.
# Source: Attention Is All You Need (Vaswani 2017, 3.2.3), the decoder.
decoder = causal
