# Each token sees itself and the w - 1 before it.
# Source: Mistral 7B (Jiang 2023, 2), sliding window attention.
# w: how many.
mistral(w = 4096t) = last(w) & causal
