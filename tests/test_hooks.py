"""`.pre-commit-hooks.yaml`: what other repositories use of this one, run by pre-commit itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pre_commit")
from pre_commit.clientlib import load_manifest

MANIFEST = Path(__file__).resolve().parent.parent / ".pre-commit-hooks.yaml"


def hooks() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load_manifest(str(MANIFEST))  # refuses what is not valid
    return found


def test_the_hooks_are_installed_as_a_package_of_python() -> None:
    assert [hook["id"] for hook in hooks()] == ["bslang-check", "bslang-fmt"]
    assert {hook["language"] for hook in hooks()} == {"python"}
    assert not any(hook["additional_dependencies"] for hook in hooks())  # the light package does


def test_a_repository_is_checked_and_formatted(tmp_path: Path) -> None:
    files = {
        "good.bsl": "window(3) | cols(0)\n",
        "loose.bslang": "window( 3 )|cols(0)\n",
        "wrong.bsl": "windw(3)\n",
        "notes.bsl.txt": "not a spec\n",
    }
    # The hooks as they are, but run where bslang is already: without a second environment.
    local = [
        hook | {"language": "system", "entry": f"{sys.executable} -m {hook['entry']}"}
        for hook in hooks()
    ]
    config = {"repos": [{"repo": "local", "hooks": [
        {key: hook[key] for key in ("id", "name", "entry", "language", "files")} for hook in local
    ]}]}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".pre-commit-config.yaml").write_text(json.dumps(config), encoding="utf-8")
    env = os.environ | {"PRE_COMMIT_HOME": str(tmp_path / "home"), "GIT_CONFIG_GLOBAL": os.devnull}
    for command in (
        ["git", "init", "--quiet"],
        ["git", "add", *files],
        [sys.executable, "-m", "pre_commit", "run", "--all-files"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1, done.stderr
    assert "wrong.bsl:1:1" in done.stdout and "did you mean" not in done.stderr
    assert "loose.bslang: formatted" in done.stdout and "notes" not in done.stdout
    assert (tmp_path / "loose.bslang").read_text(encoding="utf-8") == files["good.bsl"]
    assert (tmp_path / "wrong.bsl").read_text(encoding="utf-8") == files["wrong.bsl"]
