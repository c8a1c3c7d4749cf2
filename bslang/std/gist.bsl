# What comes later sees earlier parts through their gist tokens alone.
# Source: Learning to Compress Prompts with Gist Tokens (Mu 2023, 3). The label `part` numbers the parts of
# a sequence, each of which ends with its gist tokens; `gist` is 1 for these, and 0 for others.
gist = (same(part) | {q, k : gist[k] == 1}) & causal
