"""One sequence over several ranks: who holds which blocks, and what moves. NumPy alone, without torch.

    tables = layout.tables(length, length)      # graphs and head_graph, a Schedule
    demand = Demand(tables.graphs, tables.head_graph, heads, key_heads, layers)
    placement = placed([demand, ...], ranks, sizes)
    exchange = demand.exchange(placement, sizes)
    part = Part(exchange, rank)                 # what one rank computes, sends and receives

With labels, `at_call` first makes the graphs of one batch: placed([...], ranks, sizes, quick=True).

placement.py  Placement: the rank and the place of each block
exchange.py   Exchange: fetched items, spread rows, shared items, work, of all ranks
part.py       Part: the rows, items and graphs of one rank
traffic.py    the bytes of an exchange, and how slices are cut
planned.py    the exchange that moves least on a placement
model.py      how long an exchange takes
chunks.py     placements of runs of blocks, by work alone
swaps.py      chunks that ranks exchange, so that they fetch less
placed.py     the placement of least modelled time
called.py     graphs without the blocks that a call's labels leave empty
"""
