# In-context learning on tables: all rows see the training rows.
# Source: TabPFN v2 (Hollmann 2025); TabICL (Qu 2025, 3).
# p: how many training rows, 1024 here.
icl(p = 1024t) = cols(0:p)

# In-context learning on tables: all rows see the training rows and themselves.
# Source: Prior-Data Fitted Networks (Müller 2021, 4).
# p: how many training rows, 1024 here.
icl_self(p = 1024t) = cols(0:p) | diagonals(0t)
