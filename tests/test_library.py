"""The library of published layouts, against their exact matrices.

tests/data/layouts.json holds each as CSR over key blocks, a query block a row. layouts2.json holds the newer
ones, those of unit "token" over tokens: they are the same set at every block size.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bslang
from bslang import compiler
from bslang.analysis.properties import is_prefix_stable
from bslang.cli.list import list as list_layouts
from bslang.ir.grid import Grid
from bslang.ir.oracle import Labels, dense
from bslang.ir.runs import Bools
from bslang.patterns import BY_NAME
from bslang.patterns.window import Causal
from bslang.reports.lengths import USUAL, usual_length
from bslang.resolve.library import Entry, by_name, library
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.syntax.comments import comment_above
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.format import formatted
from bslang.syntax.source import Source
from tests.strategies import mask_of

DATA = Path(__file__).parent / "data"
GOLDEN: dict[str, Any] = json.loads((DATA / "layouts.json").read_text(encoding="utf-8"))
NEWER: dict[str, Any] = json.loads((DATA / "layouts2.json").read_text(encoding="utf-8"))

PUBLISHED: dict[str, str] = {
    "dense": "transformer.bsl:encoder",
    "causal": "transformer.bsl:decoder",
    "window3": "longformer.bsl:longformer w=3 g=0",
    "window5_causal": "mistral.bsl:mistral w=3",
    "natten_k3": "natten.bsl:natten k=3",
    "natten_k4": "natten.bsl:natten k=4",
    "dilated_w4_d2": "longformer.bsl:dilated w=5 gap=2",
    "chunked4_causal": "llama4.bsl:llama4 c=4",
    "prefix3": "prefix_lm.bsl:prefix_lm p=3",
    "document_5_4_3_causal": "packed.bsl:packed",
    "hf_bigbird_base": "bigbird.bsl:bigbird r=0",
    "etc_g2_l10_w3": "etc.bsl:etc g=2 w=3",
    "ds_fixed_bi": "deepspeed.bsl:fixed local=4 summary=1",
    "ds_fixed_uni": "deepspeed.bsl:fixed_causal local=4 summary=1",
    "ds_fixed_bi_horiz_L4G2": "deepspeed.bsl:fixed_horizontal local=4 summary=2",
    "ds_fixed_bi_n10_h2of4": "deepspeed.bsl:fixed local=4 summary=1 patterns=4 head=2",
    "ds_variable_uni": "deepspeed.bsl:variable_causal first=4 rest=3 start=5 stop=6",
    "ds_variable_ranges_bi": "deepspeed.bsl:variable first=2 rest=4 start=6 stop=8",
    "ds_bigbird_bi": "deepspeed.bsl:bigbird r=0",
    "ds_bigbird_uni": "deepspeed.bsl:bigbird_causal r=0",
    "ds_bslongformer_0_5": "deepspeed.bsl:bslongformer first=0 second=5",
    "ds_local_uni": "deepspeed.bsl:local_causal w=3",
    "ds_local_bi_w4": "deepspeed.bsl:local w=4",
    "openai_fixed_s4_h0": "sparse_transformer.bsl:fixed s=4b c=1b",
    "openai_fixed_s4_h1": "sparse_transformer.bsl:fixed s=4b c=1b head=1",
    "openai_local_e1": "sparse_transformer.bsl:local_head e=1",
    "openai_strided_s4_tok": "sparse_transformer.bsl:strided_head s=4",
    "phi3_l4_v3": "phi3.bsl:phi3 local=4 vert=3 count=1",
    "phi3_l2_v4_H2_h1": "phi3.bsl:phi3 local=2 vert=4 count=2 head=1",
    "butterfly16_K3_G1": "pixelfly.bsl:pixelfly k=3 g=1",
    "streaming_1_3": "streaming_llm.bsl:streaming_llm sinks=1 recent=3",
    "trishape_1_2_2": "minference.bsl:tri_shape sinks=1 recent=2 tail=2",
    "vertical_slash": "minference.bsl:vertical_slash v=5 s=7",
    "longnet_w4r1_w12r3_h0": "longnet.bsl:longnet w1=4 r1=1 w2=12 r2=3",
    "logsparse": "logsparse.bsl:log_sparse",
    "logsparse_local3": "logsparse.bsl:log_sparse_local w=3",
    "blockbert_shift1": "blockbert.bsl:blockbert shift=1",
    "axial_3x4": "axial.bsl:axial h=3 w=4",
    "natten2d_4x4_k3": "natten.bsl:natten2d h=4 w=4 k=3",
    "swin_4x4_w2_s1": "swin.bsl:swin w=4t side=2t shift=1t",
    "hepos_8x12_s4_h1": "hepos.bsl:hepos s=4 head=1",
    "blockdiff_6_b2": "block_diffusion.bsl:block_diffusion b=2b",
}
"""The definition of each golden layout, with its parameters (`4b`: the tokens of 4 blocks) and the head."""

PUBLISHED_SINCE: dict[str, str] = {
    "star": "star.bsl:star c=12t a=8t u=6t",
    "trianglemix_l0": "trianglemix.bsl:trianglemix start=1 sinks=2t recent=7t tail=5t",
    "trianglemix_l1": "trianglemix.bsl:trianglemix start=1 sinks=2t recent=7t tail=5t layer=1",
    "duo_h0": "duo.bsl:duo full=1 sinks=3t recent=8t",
    "duo_h1": "duo.bsl:duo full=1 sinks=3t recent=8t head=1",
    "longlora_h0": "longlora.bsl:longlora half=1 g=12t",
    "longlora_h1": "longlora.bsl:longlora half=1 g=12t head=1",
    "longlora_roll_h0": "longlora.bsl:longlora_roll half=1 g=12t",
    "longlora_roll_h1": "longlora.bsl:longlora_roll half=1 g=12t head=1",
    "moa": "moa.bsl:moa a=2 p=1 d=5",
    "power": "power.bsl:power s=1 w=3",
    "interleaved_l0": "interleaved.bsl:interleaved w=5t p=3",
    "interleaved_l1": "interleaved.bsl:interleaved w=5t p=3 layer=1",
    "interleaved_l2": "interleaved.bsl:interleaved w=5t p=3 layer=2",
    "interleaved_first_l0": "interleaved.bsl:interleaved_first w=5t p=3",
    "interleaved_first_l1": "interleaved.bsl:interleaved_first w=5t p=3 layer=1",
    "interleaved_first_l2": "interleaved.bsl:interleaved_first w=5t p=3 layer=2",
    "interleaved_encoder_l0": "interleaved.bsl:interleaved_encoder w=4t p=3",
    "interleaved_encoder_l1": "interleaved.bsl:interleaved_encoder w=4t p=3 layer=1",
    "interleaved_encoder_l3": "interleaved.bsl:interleaved_encoder w=4t p=3 layer=3",
    "hymba": "hymba.bsl:hymba meta=4t w=6t",
    "block_causal": "block_causal.bsl:block_causal c=6t",
    "block_causal_i2v": "block_causal.bsl:block_causal_i2v f=3t c=9t",
    "pi0": "block_causal.bsl:pi0 p=23t s=1t h=12t",
    "asr_chunks": "block_causal.bsl:asr_chunks c=6t left=2",
    "self_forcing": "self_forcing.bsl:self_forcing c=6t local=14t",
    "self_forcing_sink": "self_forcing.bsl:self_forcing_sink c=6t local=18t s=4t",
    "teacher_forcing": "self_forcing.bsl:teacher_forcing c=3",
    "radial_wan": "radial.bsl:radial_wan f=6t b=2t",
    "radial_hunyuan": "radial.bsl:radial_hunyuan f=5t b=2t t=3t",
    "svg_spatial": "svg.bsl:svg_spatial p=4t f=8t width=2 r=3t sink=1",
    "svg_temporal": "svg.bsl:svg_temporal p=4t f=8t F=5 width=2",
    "svg_temporal_band": "svg.bsl:svg_temporal_band p=4t f=8t F=5 w=9t",
    "vggt_l0": "vggt.bsl:vggt f=10t",
    "vggt_l1": "vggt.bsl:vggt f=10t layer=1",
    "gna1d": "gna.bsl:gna1d w=7 s=4",
    "gna1d_causal": "gna.bsl:gna1d_causal w=8 s=3",
    "gna2d": "gna.bsl:gna2d h=6 w=8 kh=4 kw=5 sh=2 sw=3",
    "af3_atoms": "alphafold3.bsl:af3_atoms nq=4t nk=16t",
    "af3_atoms_clamped": "alphafold3.bsl:af3_atoms_clamped nq=4t nk=16t",
    "time_attention": "time_series.bsl:time_attention T=8t",
    "time_covariate": "time_series.bsl:time_covariate T=8t",
    "icl": "in_context.bsl:icl p=21t",
    "icl_self": "in_context.bsl:icl_self p=21t",
    "hca": "deepseek.bsl:hca each=8t",
    "nsa_compression": "deepseek.bsl:nsa_compression l=8t d=4t",
}
"""The same for the newer ones, with the layer where it is not layer 0."""

ENTRIES = library()


def golden_matrix(entry: dict[str, Any]) -> Bools:
    matrix = np.zeros(entry["shape"], dtype=bool)
    for row, (start, stop) in enumerate(zip(entry["indptr"], entry["indptr"][1:], strict=False)):
        matrix[row, entry["indices"][start:stop]] = True
    assert matrix.sum() == entry["nnz"]
    return matrix


def published(text: str, block: int) -> tuple[Resolved, dict[str, int]]:
    """A layout as the tables above have it, and the head and the layer that the matrix is of."""
    spec, *options = text.split()
    values = dict(option.split("=") for option in options)
    for key, value in values.items():
        if value.endswith("b"):
            values[key] = f"{int(value[:-1]) * block}t"
    at = {name: int(values.pop(name, 0)) for name in ("head", "layer")}
    path, definition = compiler.split_name(f"std/{spec}")
    return compiler.resolve(source_of(path), definition, block=block, parameters=values), at


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("name", PUBLISHED)
def test_layout_is_its_published_matrix(name: str, block: int) -> None:
    expected = golden_matrix(GOLDEN[name])
    if name == "swin_4x4_w2_s1":  # an image of tokens, the same at every block size
        return check_tokens(PUBLISHED[name], expected, block, "end")
    rows, columns = expected.shape
    align = "end" if rows == columns else "start"
    resolved, at = published(PUBLISHED[name], block)
    grid = Grid.of(rows * block, columns * block, (block, block), align, **at)
    labels: Labels = {}
    if name.startswith("document"):
        doc = np.repeat([0, 1, 2], [5 * block, 4 * block, 3 * block])
        labels = {"doc": (doc, doc)}
    else:
        graph = compiler.lower(resolved, rows * block, columns * block, align, **at)
        np.testing.assert_array_equal(graph.visited.dense(rows), expected)
    mask = dense(resolved.pattern, grid, labels)
    whole = expected.repeat(block, 0).repeat(block, 1)
    held = mask.reshape(rows, block, columns, block).any(axis=(1, 3))
    np.testing.assert_array_equal(held, expected)
    if any(isinstance(part, Causal) for part in resolved.pattern.primitives()):
        # Decoders are causal to the token: their blocks on the diagonal are triangles, but in a prefix.
        i, j = np.indices(whole.shape)
        whole &= (i // block != j // block) | (i >= j) | ((j < 3 * block) & (name == "prefix3"))
    np.testing.assert_array_equal(mask, whole)


@pytest.mark.parametrize("block", [1, 4, 7])
@pytest.mark.parametrize("name", PUBLISHED_SINCE)
def test_newer_layout_is_its_published_matrix(name: str, block: int) -> None:
    """Those over tokens also where the block does not divide their length."""
    entry = NEWER[name]
    tokens = golden_matrix(entry)
    if entry["unit"] == "block":
        tokens = tokens.repeat(block, 0).repeat(block, 1)
    check_tokens(PUBLISHED_SINCE[name], tokens, block, entry.get("align", "end"))


def check_tokens(text: str, tokens: Bools, block: int, align: str) -> None:
    """A layout of the tables above by oracle and by lowering: bool (queries, keys)."""
    resolved, at = published(text, block)
    grid = Grid.of(*tokens.shape, (block, block), align, **at)
    np.testing.assert_array_equal(dense(resolved.pattern, grid), tokens)
    graph = compiler.lower(resolved, *tokens.shape, align, **at)
    np.testing.assert_array_equal(mask_of(graph), tokens)


def test_every_golden_layout_is_in_the_library() -> None:
    assert set(PUBLISHED) == set(GOLDEN)
    assert set(PUBLISHED_SINCE) == set(NEWER)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.file}:{entry.name}")
def test_definitions_are_documented(entry: Entry) -> None:
    assert entry.summary.endswith((".", ":")) and len(entry.summary) < 110
    assert "Source: " in entry.comment
    for parameter in entry.parameters:
        name, _, default = parameter.partition(" = ")
        assert default, "every parameter has a default, so that the layout can be looked at"
        _, _, about = entry.comment.partition("Source: ")
        assert name in about, f"`{name}` is not explained"
    # A file sets no block: it is for any.
    resolved = compiler.resolve(source_of(Path(entry.file)), entry.name, block=2)
    assert not {"n", "m"} & {parameter.split()[0] for parameter in entry.parameters}
    length = usual_length(resolved)
    compiler.lower(resolved, *(2 * (length if length != USUAL else 24,)))


@pytest.mark.parametrize("file", sorted({entry.file for entry in ENTRIES}))
def test_files_are_formatted(file: str) -> None:
    source = source_of(Path(file))
    assert formatted(source) == source.text


def test_fixed_is_deepspeeds_layout_at_any_length() -> None:
    """The loops of FixedSparsityConfig as they are described there, short last chunks included."""
    source = source_of(Path("std/deepspeed.bsl"))
    for n in (5, 9, 10, 12, 14, 100):
        for local, summary, patterns, head in [
            (4, 1, 1, 0),
            (4, 1, 4, 2),
            (4, 2, 2, 1),
            (6, 2, 3, 5),
        ]:
            options = {"local": local, "summary": summary, "patterns": patterns}
            resolved = compiler.resolve(
                source, "fixed", block=1, parameters={k: str(v) for k, v in options.items()}
            )
            expected = np.zeros((n, n), dtype=bool)
            for begin in range(0, n, local):
                expected[begin : begin + local, begin : begin + local] = True
            first = local - (1 + head % patterns) * summary
            for begin in range(first, n - n % local, local):
                expected[:, begin : begin + summary] = True
            if n % local:
                begin = min(n - n % local + first, n - summary)
                expected[:, begin : begin + summary] = True
            graph = compiler.lower(resolved, n, n, head=head)
            np.testing.assert_array_equal(graph.visited.dense(n), expected)


def test_bigbird_draws_outside_of_what_it_sees_anyway() -> None:
    resolved = compiler.resolve(source_of(Path("std/bigbird.bsl")), "bigbird", block=1)
    rows = compiler.lower(resolved, 40, 40).visited.dense(40).sum(axis=1)
    assert rows[0] == rows[-1] == 40
    assert list(rows[1:-1]) == [7, *[8] * 36, 7]


def test_axial_heads_take_turns() -> None:
    source = source_of(Path("std/axial.bsl"))
    size = {"h": "3t", "w": "4t"}
    resolved = compiler.resolve(source, "axial_heads", block=1, parameters=size)
    axial = compiler.resolve(source, "axial", block=1, parameters=size)
    both = compiler.lower(axial, 12, 12).visited
    even, odd = (compiler.lower(resolved, 12, 12, head=head).visited for head in (0, 1))
    assert even | odd == both and even != odd


def test_dense_layers_of_trianglemix_are_prefix_stable() -> None:
    """Not by a comparison of lengths, of which there are too many: `layer < start` holds every pair."""
    resolved = compiler.resolve(source_of(Path("std/trianglemix.bsl")), "trianglemix")
    stable = [
        is_prefix_stable(resolved.pattern, compiler.lower(resolved, 2**16, 2**16, layer=layer))
        for layer in (0, 16)
    ]
    assert [answer.holds for answer in stable] == [True, False]


def test_layouts_are_listed_with_their_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    list_layouts()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ENTRIES)
    (natten,) = (line for line in lines if line.startswith("std/natten.bsl:natten(k = 7t) "))
    assert natten.endswith("  " + next(e.summary for e in ENTRIES if e.name == "natten"))
    list_layouts(json=True)
    found = json.loads(capsys.readouterr().out)
    assert [(entry["file"], entry["name"]) for entry in found] == [
        (e.file, e.name) for e in ENTRIES
    ]
    assert all(entry.keys() == {"file", "name", "parameters", "comment", "text"} for entry in found)


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    list_layouts()
    out = capsys.readouterr().out
    assert "what it is" in out and all(f"{entry.file}:{entry.name}" in out for entry in ENTRIES)


SPEC = """\
# Not of anything: a blank line follows.

#  Near [bold]ones[/bold].
#: w, how many
near(w, s = 2t) = last(w) & strided(s)
bare = causal   # this is no line above

   # indented
_own = all
# of the layout
bare | _own
"""


def test_layouts_of_a_file_are_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.bsl"
    file.write_text(SPEC, encoding="utf-8")
    list_layouts(str(file), json=True)
    near, bare, whole = json.loads(capsys.readouterr().out)
    assert near["parameters"] == ["w", "s = 2t"]
    assert near["comment"] == "Near [bold]ones[/bold].\n: w, how many"
    assert near["text"] == "near(w, s = 2t) = last(w) & strided(s)"
    assert (bare["name"], bare["comment"]) == ("bare", "")
    assert (whole["name"], whole["comment"]) == ("mine", "of the layout")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    list_layouts(str(file))
    assert "Near [bold]ones[/bold]." in capsys.readouterr().out
    file.write_text("near = windw(3)", encoding="utf-8")
    with pytest.raises(SpecError, match="windw"):
        list_layouts(str(file))


def test_comments_above() -> None:
    assert comment_above("a = all", 0) == ""
    assert comment_above("# one\n#two\na = all", 13) == "one\ntwo"
    assert comment_above("# one\n\n#\n# two\na = all", 16) == "\ntwo"
    assert comment_above("b = all # no\na = all", 14) == ""


def test_the_library_is_imported_and_loaded_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = 'import "std/longformer.bsl" as lf\nmine = lf.longformer(w=5) & causal'
    mine = compiler.resolve(Source("mine.bsl", spec), "mine")
    assert str(mine.pattern) == "(window(5) | global(0t:1t)) & causal"
    layout = bslang.load("std/longformer.bsl:longformer", target="torch", w=5, g=1)
    q, k, v = torch.randn(3, 1, 2, 100, 8)
    assert layout(q, k, v).shape == q.shape


@pytest.mark.parametrize("name", [name for name in by_name() if name not in BY_NAME])
def test_a_name_alone_finds_the_library(name: str) -> None:
    """What the error of an unknown name says to write is right: the layout that the library has."""
    with pytest.raises(SpecError) as refused:
        compiler.resolve(Source("spec.bsl", name))
    (error,) = refused.value.diagnostics
    statement, *calls = re.findall("`(.*?)`", error.hint)
    assert len(calls) == len(by_name()[name])
    for call, entry in zip(calls, by_name()[name], strict=True):
        found = compiler.resolve(Source("spec.bsl", f"{statement}\n{call}"))
        own = compiler.resolve(source_of(Path(entry.file)), entry.name)
        assert found.pattern == own.pattern
