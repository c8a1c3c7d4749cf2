"""One sequence over several ranks: who holds which blocks, and what moves. NumPy alone, without torch.

    tables = layout.tables(length, length)      # graphs and head_graph, a Schedule
    placement = Placement.contiguous(length, common_block(layout.block), ranks)
    exchange = planned(tables.graphs, tables.head_graph, heads, key_heads, placement, sizes)
    part = Part(exchange, rank)                 # what one rank computes, sends and receives

placement.py  Placement: the rank and the place of each block
exchange.py   Exchange: fetched items, spread rows, shared items, work, of all ranks
traffic.py    the bytes of an exchange, and how slices are cut
planned.py    the exchange that moves least on a placement
part.py       Part: the rows, items and graphs of one rank
"""
