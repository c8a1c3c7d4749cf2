"""The examples run, in a small size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_train_lm(tmp_path: Path) -> None:
    size = "--steps 25 --context 256 --dim 32 --layers 1 --heads 2 --batch 4 --lr 0.01"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train_lm.py", *size.split(), "--out", tmp_path],
        cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "causal_bigbird.cpp").is_file()
    rows = re.findall(r"(sparse|dense) +│ +([\d.]+) │ +([\d.]+) │ +([\d.]+) │", done.stdout)
    assert [row[0] for row in rows] == ["sparse", "dense"]
    for _, first, last, held_out in rows:
        assert float(last) < float(first) - 1 and float(held_out) < float(first) - 1


def test_train_lm_refuses_a_spec_with_errors(tmp_path: Path) -> None:
    spec = tmp_path / "mine.bsl"
    spec.write_text("windw(3)", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train_lm.py", "--spec", spec, "--out", tmp_path],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "did you mean `window`?" in done.stderr
