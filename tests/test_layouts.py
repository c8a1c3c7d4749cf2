"""Published layouts, each as one line, against their exact matrices.

tests/data/layouts.json holds each as CSR over key blocks, a query block a row. Heads and offsets that
a layout takes are written out here as numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bslang import compiler
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.syntax.source import Source

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "layouts.json").read_text(encoding="utf-8")
)

SPELLINGS = {
    "dense": "all",
    "causal": "last(inf)",
    "window3": "window(3)",
    "window5_causal": "last(3)",
    "natten_k3": "window(3, clamp=true)",
    "natten_k4": "window(4, clamp=true)",
    "dilated_w4_d2": "window(5, step=2)",
    "chunked4_causal": "chunks(4) & last(inf)",
    "prefix3": "cols(0:3) | last(inf)",
    "document_5_4_3_causal": "chunks(5, 4, 3) & last(inf)",
    "hf_bigbird_base": "window(3) | global(0, -1)",
    "etc_g2_l10_w3": "window(3) | global(0:2)",
    "ds_fixed_bi": "chunks(4) | every(4, offset=3)",
    "ds_fixed_uni": "(chunks(4) | every(4, offset=3)) & last(inf)",
    "ds_fixed_bi_horiz_L4G2": "chunks(4) | global(2::4, 3::4)",
    "ds_variable_uni": "(chunks(4, 3) | cols(0, 5)) & last(inf)",
    "ds_variable_ranges_bi": "chunks(2, 4) | global(0, 6:8)",
    "ds_bigbird_bi": "window(3) | global(0)",
    "ds_bigbird_uni": "(window(3) | cols(0)) & last(inf)",
    "ds_bslongformer_0_5": "window(3) | global(0, 5)",
    "ds_local_uni": "last(2)",
    "ds_local_bi_w4": "window(5)",
    "openai_fixed_s4_h0": "(chunks(4) | every(4, offset=3)) & last(inf)",
    "openai_fixed_s4_h1": "(chunks(4) | every(4, offset=2)) & last(inf)",
    "openai_local_e1": "last(2)",
    "openai_strided_s4_tok": "strided(4) & last(inf)",
    "phi3_l4_v3": "last(4) | every(3, offset=2) & last(inf)",
    "phi3_l2_v4_H2_h1": "last(2) | every(4, offset=1) & last(inf)",
    "streaming_1_3": "(cols(0) | last(3)) & last(inf)",
    "trishape_1_2_2": "(cols(0) | last(2) | rows(-2:)) & last(inf)",
    "vertical_slash": "(cols(0, 5) | diagonals(0, 1, 7)) & last(inf)",
    "longnet_w4r1_w12r3_h0": "(chunks(4) | rows(::3) & cols(::3)) & last(inf)",
    "logsparse": "diagonals(0, 1, 2, 4, 8)",
    "logsparse_local3": "diagonals(0:3, 3, 4, 6, 10)",
    "blockbert_shift1": "window(left=-1, right=1, wrap=true)",
    "axial_3x4": "chunks(4) | strided(4)",
    "hepos_8x12_s4_h1": "every(4, offset=1)",
}

WITHOUT_A_SPELLING = {
    "ds_fixed_bi_n10_h2of4",  # its last chunk is short, and summarised by another column
    "butterfly16_K3_G1",  # needs `butterfly`
    "natten2d_4x4_k3",  # needs `grid`
    "swin_4x4_w2_s1",  # needs `grid`
    "blockdiff_6_b2",  # needs a set-builder
}


def golden_matrix(name: str) -> Bools:
    entry = GOLDEN[name]
    matrix = np.zeros(entry["shape"], dtype=bool)
    for row, (start, stop) in enumerate(zip(entry["indptr"], entry["indptr"][1:], strict=False)):
        matrix[row, entry["indices"][start:stop]] = True
    assert matrix.sum() == entry["nnz"]
    return matrix


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("name", SPELLINGS)
def test_layout_is_its_published_matrix(name: str, block: int) -> None:
    expected = golden_matrix(name)
    rows, columns = expected.shape
    align = "end" if rows == columns else "start"
    resolved = compiler.resolve(Source("<layout>", SPELLINGS[name]), block=block)
    graph = compiler.lower(resolved, rows * block, columns * block, align)
    np.testing.assert_array_equal(graph.held.dense(rows), expected)
    mask = dense(resolved.pattern, Grid.of(rows * block, columns * block, (block, block), align))
    np.testing.assert_array_equal(mask, expected.repeat(block, 0).repeat(block, 1))


def test_every_golden_layout_is_accounted_for() -> None:
    assert set(SPELLINGS) | WITHOUT_A_SPELLING == set(GOLDEN)
    assert not set(SPELLINGS) & WITHOUT_A_SPELLING
