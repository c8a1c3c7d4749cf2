# DuoAttention: retrieval heads that see all, then streaming heads of sinks and latest tokens.
# Source: DuoAttention (Xiao 2024, 2), the heads reordered so that the retrieval heads come first.
# full: how many retrieval heads, half of 32 here; sinks: kept in front; recent: of the latest, the
# query's own included. 64 and 256 tokens are what its code runs Llama 3 with.
duo(full = 16, sinks = 64t, recent = 256t) = heads {
    0:full -> causal;
    full: -> (cols(0:sinks) | last(recent)) & causal
}

# DuoAttention whose retrieval heads see the pages that a rule chooses, their own and the sinks.
# Source: DuoAttention (Xiao 2024, 2) with Quest (Tang 2024, 3) in its retrieval heads, as both propose
# for long caches. `bslang.select.bounds` makes `pick`; what it lists for streaming heads is not read.
# full: how many retrieval heads; sinks: kept in front; recent: of the latest; b: tokens of a page.
duo_selected(full = 16, sinks = 64t, recent = 256t, b = 16t) = heads {
    0:full -> (select(pick, rows=1t, cols=b) | chunks(b) | cols(0:sinks)) & causal;
    full: -> (cols(0:sinks) | last(recent)) & causal
}
