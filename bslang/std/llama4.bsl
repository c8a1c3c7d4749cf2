# Causal attention inside chunks that do not see one another.
# Source: Llama 4 in transformers (chunked_attention), every layer but those without positions.
# c: length of a chunk, 8192t in the models.
llama4(c = 4) = chunks(c) & causal
