# Causal attention inside chunks that do not see one another.
# Source: Llama 4 in transformers (chunked_attention), every layer but those without positions.
# c: length of a chunk.
llama4(c = 8192t) = chunks(c) & causal
