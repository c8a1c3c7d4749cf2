"""bslang why: does this query see that key, and which terms of the spec make it so?"""

from __future__ import annotations

from typing import Annotated

import typer

from bslang.cli.common import (
    BlockOption,
    HeadOption,
    JsonOption,
    LayerOption,
    LongOption,
    OrderOption,
    ParameterOption,
    print_json,
)
from bslang.cli.spec import SpecArgument, resolve_spec

Query = Annotated[
    int, typer.Argument(metavar="Q", help="Position of the query; negative from the end.")
]
Key = Annotated[
    int, typer.Argument(metavar="K", help="Position of the key; negative from the end.")
]


def why(
    spec: SpecArgument,
    query: Query,
    key: Key,
    seq_len: LongOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    head: HeadOption = 0,
    layer: LayerOption = 0,
    json: JsonOption = False,
) -> None:
    """Say whether query Q sees key K, and which terms of the spec decide it."""
    from bslang.reports.why import why as ask

    resolved = resolve_spec(spec, define, block, order)
    found = ask(resolved, query, key, seq_len, head=head, layer=layer, option="--seq-len")
    if json:
        print_json(found.as_dict())
    else:
        print(found)
