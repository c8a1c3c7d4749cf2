# Each token sees itself and the w - 1 before it.
# Source: Mistral 7B (Jiang 2023, 2), sliding window attention.
# w: how many, 4096t in the paper.
mistral(w = 3) = last(w) & causal
