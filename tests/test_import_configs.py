"""`bslang import`: the page about it, what it refuses, and the command."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imported import resolved

from bslang import compiler
from bslang.cli.main import main
from bslang.configs import deepspeed, spec_of
from bslang.configs.values import ConfigError
from bslang.errors import LimitError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense_blocks
from bslang.limits import MAX_CONFIG_BYTES, MAX_LAYERS
from bslang.syntax.source import Source

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "migration.md").read_text(
    encoding="utf-8"
)
ROWS = [
    (json.loads(f"{{{config}}}"), spec.replace("\\|", "|"))
    for config, spec in re.findall(r'^\| `(".*)` \| `(.*)` \|$', PAGE, re.MULTILINE)
]
assert len(ROWS) > 20


def test_the_page_has_every_mode_and_option() -> None:
    pairs = [pair for config, _ in ROWS for pair in config.items()]
    assert {value for key, value in pairs if key == "mode"} == {*deepspeed._MODES}
    for mode, about in deepspeed._MODES.items():
        shown = {key for config, _ in ROWS if config.get("mode") == mode for key in config}
        # What a class may do by head, and does not do, is a sentence of the page.
        assert not {*about.options} - shown - {"block", "different_layout_per_head"}, mode


@pytest.mark.parametrize(("config", "spec"), ROWS, ids=lambda part: str(part)[:60])
def test_rows_of_the_page(config: dict[str, Any], spec: str) -> None:
    """What a configuration becomes is what the page says: the pattern of some layer, or its blocks."""
    text = spec_of(config, "config.json")
    name = config.get("model_type") or config["mode"]
    ours = resolved(text, name)
    said = compiler.resolve(Source("said.bsl", spec), block=ours.block)
    if "model_type" in config:
        assert str(ours.pattern) == str(said.pattern)
        return
    for n in (5, 8, 13):
        length = n * ours.block[0]
        for head in range(3):
            grid = Grid.of(length, length, ours.block, head=head)
            np.testing.assert_array_equal(
                dense_blocks(said.pattern, grid), dense_blocks(ours.pattern, grid)
            )


# ---- what is refused -------------------------------------------------------------------------------

WRONG: list[tuple[object, str]] = [
    ([1], "a configuration is a JSON object"),
    ({}, "no `sparse_attention` or `model_type`"),
    ({"train_batch_size": 8}, "no sparse attention in this configuration"),
    ({"sparse_attention": []}, "`sparse_attention` must be an object"),
    ({"sparse_attention": {"mode": "fixd"}}, '`mode` must be one of "dense", "fixed"'),
    ({"sparse_attention": {"num_locl_blocks": 2}}, "did you mean `num_local_blocks`"),
    ({"sparse_attention": {"x\n": 2}}, r'unknown key "x\\n" in'),
    ({"sparse_attention": {"num_local_blocks": "4"}}, 'whole number of at least 1, not "4"'),
    ({"sparse_attention": {"block": 0}}, "`block` must be a whole number from 1 to 4096, not 0"),
    ({"sparse_attention": {"num_local_blocks": 3, "num_global_blocks": 2}}, "a multiple of"),
    ({"sparse_attention": {"num_different_global_patterns": 5}}, "can be at most"),
    ({"sparse_attention": {"num_different_global_patterns": 2}}, "needs `different_layout_per_head`"),
    ({"sparse_attention": {"attention": "both"}}, '"unidirectional", "bidirectional", not "both"'),
    ({"attention": "unidirectional", "horizontal_global_attention": True}, "needs `attention`"),
    ({"sparse_attention": {"horizontal_global_attention": 1}}, "must be true or false, not 1"),
    ({"mode": "variable", "local_window_blocks": []}, "must have a number"),
    ({"mode": "variable", "local_window_blocks": [0]}, "a list of whole numbers of at least 1"),
    ({"mode": "variable", "global_block_indices": 3}, "must be a list of whole numbers"),
    ({"mode": "bslongformer", "global_block_end_indices": [1, 2]}, "as many numbers"),
    ({"mode": "bslongformer", "global_block_end_indices": [0]}, "must end after its start"),
    ({"model_type": 3}, "`model_type` must be text"),
    ({"model_type": "llama"}, 'no layer of "llama" has a window or chunks'),
    ({"model_type": "mistral", "sliding_window": None}, "has a window or chunks"),
    ({"model_type": "mistral", "sliding_window": True}, "at least 1, not true"),
    ({"model_type": "mistral", "num_hidden_layers": 0}, "`num_hidden_layers` must be"),
    ({"model_type": "gemma2", "sliding_window": None}, "need `sliding_window`"),
    ({"model_type": "gemma3", "text_config": 1}, "`text_config` must be an object"),
    ({"model_type": "phi3", "sliding_window": 4, "max_window_layers": 2}, "list `layer_types` instead"),
    ({"model_type": "phi3", "sliding_window": 4, "sliding_window_pattern": "LLLG"}, "list `layer_types`"),
    ({"layer_types": ["sliding_attention"]}, "without a `model_type`, which says what they mean"),
    ({"model_type": "qwen3", "layer_types": "full"}, "`layer_types` must be a list of words"),
    (
        {"model_type": "qwen3", "layer_types": ["sliding_attention"], "num_hidden_layers": 2},
        "each of 2 layers, not 1",
    ),
    ({"model_type": "qwen3", "layer_types": ["striped"]}, 'static, not read yet: `layer_types`.*"striped"'),
    ({"model_type": "gpt_neo", "attention_types": [[["global"], 24]]}, "every layer is global"),
    ({"model_type": "gpt_neo", "attention_types": [["global", 2]]}, "`attention_types` must be as"),
    ({"model_type": "gpt_neo", "attention_types": [[["near"], 2]]}, 'a list of "global" and "local"'),
    ({"model_type": "gpt_neo", "num_layers": 3}, "must say 3 layers, not 24"),
    ({"model_type": "recurrent_gemma", "block_types": []}, "`block_types` must be a list of words"),
    ({"model_type": "nat", "kernel_size": 4}, "`kernel_size` must be odd"),
    ({"model_type": "dinat", "dilations": [[1, 8]]}, "static, not read yet: `dilations`"),
    ({"model_type": "swin", "image_size": 200}, "static, not read yet: `window_size`, `image_size`"),
    ({"model_type": "swin", "image_size": [224]}, "one number or two, not 1"),
    (
        {"model_type": "longt5", "encoder_attention_type": "transient-global"},
        "static, not read yet: `encoder_attention_type`",
    ),
    ({"sparse_attention": {"num_heads": 4}}, "add `mode`"),
    ({"cls": "a.OwnSparsityConfig", "sparse_attention": {}}, '"OwnSparsityConfig"; supported classes'),
    (
        {"cls": "FixedSparsityConfig", "sparse_attention": {"mode": "bigbird"}},
        '`cls` is FixedSparsityConfig, which belongs to mode "fixed"',
    ),
    ({"model_type": "llama4", "no_rope_layers": [1]}, "each of 48 layers, not 1"),
    ({"model_type": "longformer", "attention_window": 5}, "must be even, not 5"),
    ({"model_type": "longformer", "attention_window": [4], "num_hidden_layers": 2}, "each of 2 layers"),
    ({"model_type": "big_bird", "attention_type": "sparse"}, '"block_sparse", "original_full"'),
    ({"model_type": "phi3small", "dense_attention_every_n_layers": 1}, "every layer is dense"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "message"), WRONG, ids=[json.dumps(c)[:60] for c, _ in WRONG])
def test_wrong_configurations(config: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        spec_of(config, "config.json")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_too_many_layers() -> None:
    with pytest.raises(LimitError, match="MAX_LAYERS"):
        spec_of({"model_type": "mistral", "num_hidden_layers": MAX_LAYERS + 1}, "config.json")


def test_free_text_of_a_configuration_stays_in_its_comment() -> None:
    kinds = ["sliding_attention", "x\ny = all"]
    given = {
        "model_type": "qwen3",
        "layer_types": kinds,
        "sliding_window": 2,
        "attention_dropout": "a\nb = all",
    }
    text = spec_of(given, "evil\nname = all\u2028b = all\x1cc = all\udcff.json")
    assert compiler.program(Source("imported.bsl", text)).names == ("sliding",)


# ---- the command -----------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments, stdin=b""): (status, stdout, stderr) of the program, in a folder with config.json."""
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text('{"model_type": "gpt_oss"}', encoding="utf-8")

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bslang", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "config",
    [
        *(config for config, _ in ROWS),
        {"mode": "fixed", "num_global_blocks": 2, "attention": "unidirectional"},
        {"model_type": "qwen2", "use_sliding_window": True},
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"model_type": "gpt_oss"},
        {"model_type": "llama4_text"},
        {"model_type": "modernbert"},
        {"model_type": "longformer", "attention_window": [4] * 6 + [8] * 6},
        {"model_type": "phi3small"},
    ],
    ids=lambda config: json.dumps(config)[:60],
)
def test_what_is_written_passes_check_and_fmt(run: Run, config: dict[str, Any]) -> None:
    Path("config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run("import", "config.json", "-o", "new/out.bsl") == (0, "new/out.bsl\n", "")
    status, out, err = run("check", "--strict", "new/out.bsl")
    assert (status, err) == (0, "") and "ok" in out
    assert run("fmt", "--check", "new/out.bsl") == (0, "", "")


def test_files_that_exist_are_left_alone(run: Run) -> None:
    out = Path("out.bsl")
    out.write_text("all", encoding="utf-8")
    status, printed, err = run("import", "config.json", "-o", "out.bsl")
    assert (status, printed, err) == (1, "", "error: out.bsl exists; --force replaces it\n")
    assert out.read_text(encoding="utf-8") == "all"
    status, text, _ = run("import", "config.json")
    assert status == 0 and run("import", "config.json", "-o", "out.bsl", "--force")[0] == 0
    assert out.read_text(encoding="utf-8") == text


def test_standard_input(run: Run) -> None:
    status, out, _ = run("import", "-", stdin=b'\xef\xbb\xbf{"mode": "dense"}')
    assert status == 0 and "dense = all" in out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "this is not JSON: "),
        (b"\xff", "this file is not UTF-8 text (byte 0)"),
        (b"[" * 100_000, "too deep"),
        (b"1" * 10_000, "a number that is too long"),
        (b'{"mode": 1}', "`mode` must be one of"),
        (None, "this is a folder"),
        ("missing.json", "no such file"),
    ],
)
def test_unreadable_files(run: Run, data: bytes | str | None, message: str) -> None:
    path = data if isinstance(data, str) else "given.json"
    if data is None:
        Path(path).mkdir()
    elif isinstance(data, bytes):
        Path(path).write_bytes(data)
    status, out, err = run("import", path, "-o", "out.bsl")
    assert status == 1 and out == ""
    assert err.startswith(f"error: {path}: ") and message in err and err.count("\n") == 1
    assert not Path("out.bsl").exists()


def test_limits_and_names(run: Run) -> None:
    with Path("large.json").open("wb") as file:
        file.truncate(MAX_CONFIG_BYTES + 1)
    status, _, err = run("import", "large.json")
    assert status == 3 and "MAX_CONFIG_BYTES" in err
    status, _, err = run("import", "config.json", "-o", "out.json")
    assert status == 1 and "does not end in .bsl or .bslang" in err
    Path("dir.bsl").mkdir()
    status, _, err = run("import", "config.json", "-o", "dir.bsl")
    assert status == 1 and "is a folder" in err
    status, _, err = run("import", "config.json", "-o", "config.json/out.bsl")
    assert status == 1 and "cannot write" in err
