"""The files that a public project has beside its code: valid, and they name what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import floors
import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

from bslang._version import __version__

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ".github/workflows/test.yml"
GITLAB = ".gitlab-ci.yml"
MADE = re.compile(r"(?:^|`)make ([a-z0-9-]+)", re.MULTILINE)
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):", text("Makefile"), re.MULTILINE))


def valid(schema: str, path: Path) -> bool:
    arguments = ["--builtin-schema", f"vendor.{schema}", str(path)]
    return CliRunner().invoke(check_jsonschema, arguments).exit_code == 0


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("github-workflows", GITHUB),
        ("gitlab-ci", GITLAB),
        ("citation-file-format", "CITATION.cff"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        *(("github-issue-forms", str(form.relative_to(ROOT))) for form in FORMS),
    ],
)
def test_files_of_forges_are_valid(schema: str, name: str, tmp_path: Path) -> None:
    assert valid(schema, ROOT / name)
    broken = tmp_path / Path(name).name  # a key too many in each
    broken.write_text(text(name) + "\nnothing_of_this_name: {a: [b]}\n", encoding="utf-8")
    assert schema == "gitlab-ci" or not valid(schema, broken)


# ---- Continuous integration ----------------------------------------------------------------------


def jobs(name: str) -> dict[str, Any]:
    workflow = yaml.safe_load(text(name))
    return (
        workflow["jobs"]
        if name == GITHUB
        else {k: workflow[k] for k in ("test", "light", "versions")}
    )


def commands(job: dict[str, Any]) -> list[str]:
    steps = [step["run"] for step in job.get("steps", ()) if "run" in step]
    return [*steps, *job.get("script", ())]


@pytest.mark.parametrize("name", [GITHUB, GITLAB])
def test_ci_runs_what_the_repository_has(name: str) -> None:
    assert commands(jobs(name)["test"]) == [".ci/run"]
    assert commands(jobs(name)["light"]) == ["make test-light"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    for job in jobs(name).values():
        for command in commands(job):
            made = re.match(r"make ([a-z0-9-]+)", command)
            assert command == ".ci/run" or (made and made[1] in targets()), command


@pytest.mark.parametrize("name", [GITHUB, GITLAB])
def test_ci_runs_every_environment_of_the_floors(name: str) -> None:
    job = jobs(name)["versions"]
    matrix = job["strategy"]["matrix"]["include"] if name == GITHUB else job["parallel"]["matrix"]
    assert {tuple(entry.values()) for entry in matrix} == {
        (environment.name, environment.python) for environment in floors.environments()
    }
    (command,) = commands(job)
    assert re.fullmatch(
        r"make test-floors ONLY=\$(ENVIRONMENT|\{\{ matrix.environment \}\})", command
    )


def test_workflows_can_only_read() -> None:
    workflow = yaml.safe_load(text(GITHUB))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1"))
    assert "secrets" not in text(GITHUB) + text(GITLAB)


# ---- Templates and releases ----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_reports_name_their_versions(form: Path) -> None:
    fields = {field.get("id"): field for field in yaml.safe_load(form.read_text("utf-8"))["body"]}
    if form.stem != "layout":  # which no version has yet
        asked = [field for field in fields.values() if "bslang --version" in str(field)]
        assert [field["validations"]["required"] for field in asked] == [True]


def test_make_targets_that_pages_name_exist() -> None:
    pages = (".github/pull_request_template.md", "CONTRIBUTING.md", "docs/releasing.md")
    named = {name for page in pages for name in MADE.findall(text(page))}
    assert {"test", "test-floors", "identical"} <= named <= targets()


def test_the_version_is_the_same_everywhere() -> None:
    """docs/releasing.md lists where it is stated."""
    citation = yaml.safe_load(text("CITATION.cff"))
    extension = json.loads(text("editors/vscode/package.json"))
    assert citation["version"] == extension["version"] == __version__
    assert citation["license"] == extension["license"] == "Apache-2.0"
    heading = re.search(
        r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", text("CHANGELOG.md"), re.MULTILINE
    )
    assert heading and heading[1] == __version__
    assert str(citation.get("date-released", "unreleased")) == heading[2]
    listed = re.findall(
        r"^\| `([^`]+)` \| ", text("docs/releasing.md").split("## 2.")[0], re.MULTILINE
    )
    assert listed == [
        "bslang/_version.py",
        "CITATION.cff",
        "editors/vscode/package.json",
        "CHANGELOG.md",
    ]


def test_no_other_file_states_the_version() -> None:
    """Of the files that a release does not regenerate: none has to be found again by hand."""
    files = ["pyproject.toml", "mkdocs.yml", "README.md", "editors/vscode/README.md", "SECURITY.md"]
    for name in files:
        assert not re.search(rf"\b{re.escape(__version__)}\b", text(name)), name
