# Recommendation: features see one another, the history is causal, candidates see both and their group.
# Source: Actions Speak Louder than Words (Zhai 2024, 3.2; M-FALCON). The labels `features` and `history`,
# positions in each row of the batch where these end, are passed at the call.
# g: candidates in a group.
hstu(g = 1t) = (
    {q, k : k <= q & k < history[b]}
    | {q, k : q < features[b] & k < features[b]}
    | {q, k : q >= history[b] & k >= history[b] & (q - history[b]) // g == (k - history[b]) // g}
)
