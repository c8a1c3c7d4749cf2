# TriangleMix: dense layers first, then layers of sinks, latest tokens and dense last queries.
# Source: TriangleMix (He 2025, 3); MInference's `tri_mix`, with its values for Llama 3.1 8B.
# start: first layer that is sparse; sinks: kept in front; recent: of the latest, the query's own
# included; tail: how many last queries see all.
trianglemix(start = 16, sinks = 8t, recent = 512t, tail = 128t) = (
    ({i, j : layer < start} | cols(0:sinks) | last(recent) | rows(-tail:)) & causal
)
