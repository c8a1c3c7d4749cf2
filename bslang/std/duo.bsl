# DuoAttention: retrieval heads that see all, then streaming heads of sinks and latest tokens.
# Source: DuoAttention (Xiao 2024, 2), the heads reordered so that the retrieval heads come first.
# full: how many retrieval heads, half of 32 here; sinks: kept in front; recent: of the latest, the
# query's own included. 64 and 256 tokens are what its code runs Llama 3 with.
duo(full = 16, sinks = 64t, recent = 256t) = heads {
    0:full -> causal;
    full: -> (cols(0:sinks) | last(recent)) & causal
}
