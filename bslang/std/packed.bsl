# Documents packed into one sequence, each causal and by itself.
# Source: Efficient Sequence Packing (Krell 2021, 3.2). The label `doc`, a number for each token,
# is passed at the call.
packed = same(doc) & causal

# Packed documents for encoders: every token of a document sees all of its document.
# Source: Efficient Sequence Packing (Krell 2021, 3.2).
packed_encoder = same(doc)
