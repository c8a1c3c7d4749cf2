# The first tokens and the latest ones, as StreamingLLM keeps them.
# Source: MInference (Jiang 2024, 3.2), A-shape.
# sinks: how many are kept in front; recent: of the latest, the query's own included. The numbers are
# those of its code.
a_shape(sinks = 128t, recent = 3968t) = (cols(0:sinks) | last(recent)) & causal

# An A-shape whose last queries see all before them.
# Source: SCBench (Li 2024), tri-shape; also in MInference's code.
# sinks: kept in front; recent: of the latest; tail: how many last queries see all. The numbers are
# those of its code.
tri_shape(sinks = 128t, recent = 3968t, tail = 100t) = (
    (cols(0:sinks) | last(recent) | rows(-tail:)) & causal
)

# Lines of keys that all queries see, and slashes of keys at fixed distances.
# Source: MInference (Jiang 2024, 3.2), vertical-slash, with one line and one slash beside those at
# 0 and 1; for more, write their own `cols(...) | diagonals(...)`.
# v: the block of the line; s: the distance of the slash, in blocks. Both are examples: MInference finds
# them in each call.
vertical_slash(v = 5, s = 7) = (cols(0, v) | diagonals(0, 1, s)) & causal
