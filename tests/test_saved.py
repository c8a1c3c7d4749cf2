"""A layout is saved with what it compiles from: its repr makes it again, its source is a spec file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import bslang

LAYOUTS = {
    "plain": lambda: bslang.compile("causal"),
    "block": lambda: bslang.compile("window(3) | global(0, -1) | random(2, seed=7)", block=16),
    "sides": lambda: bslang.compile("(last(300t) | cols(0:4t)) & causal", block=(128, 64)),
    "setting": lambda: bslang.compile("block 32\nwide(w = 3) = window(w)\n", w=5),
    "named": lambda: bslang.compile("near = last(3)\nfar = strided(4) | near", "far"),
    "labels": lambda: bslang.compile("(same(doc) | same(stage)) & causal"),
    "targets": lambda: bslang.compile("all", target=["cpu", "torch"]),
    "target": lambda: bslang.compile("all", target="torch"),
    "layer": lambda: bslang.compile("last((layer + 1) * 64t)").at_layer(3),
    "heads": lambda: bslang.compile("heads { 0 -> causal; 1: -> last(head) }").at_layer(1).at_heads(2),
}  # fmt: skip


@pytest.fixture
def load_beside(tmp_path: Path) -> Path:
    """A folder with a spec file whose name is no identifier, and one with that of a primitive."""
    (tmp_path / "my-layout.bsl").write_text("window(3)", encoding="utf-8")
    (tmp_path / "causal.bsl").write_text("last(2)", encoding="utf-8")
    return tmp_path


def again(layout: bslang.Layout) -> bslang.Layout:
    made = eval(repr(layout), {"bslang": bslang})
    assert isinstance(made, bslang.Layout)
    return made


@pytest.mark.parametrize("name", LAYOUTS)
def test_its_repr_makes_it_again(name: str) -> None:
    layout = LAYOUTS[name]()
    made = again(layout)
    assert made == layout and hash(made) == hash(layout)
    assert (made.name, made.spec, made.block) == (layout.name, layout.spec, layout.block)
    assert (tuple(made.targets), made.labels) == (tuple(layout.targets), layout.labels)
    assert (made.layer, made.first_head, made.digest) == (
        layout.layer,
        layout.first_head,
        layout.digest,
    )
    assert repr(made) == repr(layout)


def test_it_reads_like_what_was_written() -> None:
    assert repr(bslang.compile("causal")) == "bslang.compile('causal', block=64)"
    assert repr(LAYOUTS["targets"]()) == "bslang.compile('all', block=64, target=('cpu', 'torch'))"
    assert repr(LAYOUTS["named"]()) == "bslang.compile('far = strided(4) | last(3)', block=64)"
    assert repr(LAYOUTS["layer"]()).endswith(", block=64).at_layer(3)")


def test_layouts_are_equal_by_what_they_are() -> None:
    causal = bslang.compile("causal")
    assert causal == bslang.compile("it = causal") and causal != "causal"
    others = [
        bslang.compile("causal", block=32),
        bslang.compile("causal", target="torch"),
        bslang.compile("last(inf)"),
        causal.at_layer(1),
    ]
    assert len({causal, *others}) == 5 and causal not in others
    assert pickle.loads(pickle.dumps(others[3])) == others[3]


def test_files_whose_names_cannot_be_defined(load_beside: Path) -> None:
    dashed = bslang.load(load_beside / "my-layout.bsl")
    assert repr(dashed) == "bslang.compile('my_layout = window(3)', block=64)"
    assert again(dashed) == dashed
    primitive = bslang.load(load_beside / "causal.bsl")
    assert (
        repr(primitive) == "bslang.compile('last(2)', block=64)" and again(primitive) == primitive
    )


def test_tables_are_read_again(tmp_path: Path) -> None:
    """From the folder of the module, where they lie under their content."""
    blocks = np.tril(np.ones((4, 4), dtype=bool))
    np.save(tmp_path / "mask.npy", blocks)
    layout = bslang.compile('table("mask.npy") | cols(0)', block=16, folder=tmp_path)
    (tmp_path / "mask.npy").unlink()
    made = again(layout)
    assert made == layout
    assert torch.equal(made.to_dense(64), layout.to_dense(64))
    assert "folder=" in repr(layout) and "sha256-" in repr(layout)


@pytest.mark.parametrize("name", ["plain", "sides", "setting", "named", "labels"])
def test_its_source_is_a_spec_file(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]()
    file = tmp_path / f"{layout.name}.bsl"
    file.write_text(layout.source, encoding="utf-8")
    made = bslang.load(file)
    assert (made, made.name) == (layout, layout.name)
    assert layout.source.startswith(f"block {layout.block[0]}x{layout.block[1]}\n")
