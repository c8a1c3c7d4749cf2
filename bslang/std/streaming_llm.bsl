# The first tokens as attention sinks, and the latest ones.
# Source: StreamingLLM (Xiao 2023, 3.2); MInference calls it A-shape (Jiang 2024, 3.2).
# sinks: how many are kept in front; recent: of the latest, the query's own included. The numbers are
# those of its code.
streaming_llm(sinks = 4t, recent = 2000t) = (cols(0:sinks) | last(recent)) & causal
