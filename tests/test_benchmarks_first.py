"""First contact with a GPU, without one: budgets, lines of JSON, and that wrong results are seen."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
import bslang
from benchmarks import workloads
from benchmarks.first import __main__ as command
from benchmarks.first import carried, decoding, right, special, timed
from benchmarks.first.carried import Carried
from benchmarks.first.right import Shape, compare, drawn
from benchmarks.first.steps import FAILED, GOOD, LATE, WRONG, Log, Step, Task, run
from benchmarks.first.where import CUDA, INTERPRETER, Where, task
from benchmarks.workers import DeadError, TaskError
from bslang import api

ON_CPU = Where(INTERPRETER)

# ---- steps ---------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Inline:
    """Workers that do a task at once, by a clock of the test's."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., Any], *given: Any, timeout: float) -> Future[Any]:
        made: Future[Any] = Future()
        begin = self.clock.now
        try:
            value = function(*given)
            if self.clock.now - begin > timeout:
                self.clock.now = begin + timeout
                raise TaskError(f"it took longer than {timeout:g} s")
            made.set_result(value)
        except Exception as error:
            made.set_exception(error if isinstance(error, TaskError) else TaskError(str(error)))
        return made


CLOCK = Clock()


def takes(seconds: float, **found: Any) -> dict[str, Any]:
    CLOCK.now += seconds
    return found


def fails() -> dict[str, Any]:
    raise ValueError("no such kernel")


def broken() -> list[Task]:
    raise KeyError("layouts")


def done(path: Path, *steps: Step, seconds: float = 100.0) -> list[tuple[str, str, str]]:
    """The outcomes of a run, in order; all of them are in the file."""
    CLOCK.now = 0.0
    said: list[dict[str, Any]] = []
    run(steps, lambda count, environment: Inline(CLOCK), Log(path), said.append, seconds, now=CLOCK)  # type: ignore[arg-type,return-value]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines[-len(said) :] == said or not said
    return [(each["step"], each["task"], each["outcome"]) for each in said]


def first(*tasks: Task) -> Step:
    return Step("first", 40, lambda: tasks)


def test_each_outcome_is_a_line_and_none_is_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "first.jsonl"
    tasks = (
        Task("good", takes, (1.0,)),
        Task("raises", fails),
        Task("hangs", takes, (1000.0,), seconds=5),
        Task("wrong", lambda: takes(1.0, wrong="off by 1")),
        Task("long", takes, (1000.0,), seconds=90),
        Task("never", takes, (1.0,)),
    )
    last = Step("last", 60, lambda: [Task("good", takes, (50.0,), seconds=80)])
    assert done(path, first(*tasks), Step("broken", 0, broken), last) == [
        ("first", "good", GOOD),
        ("first", "raises", FAILED),
        ("first", "hangs", FAILED),
        ("first", "wrong", WRONG),
        ("first", "long", FAILED),  # by the end of its step
        ("first", "never", LATE),
        ("broken", "its tasks", FAILED),
        ("last", "good", GOOD),
    ]
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert records[1]["why"] == "no such kernel" and records[3]["wrong"] == "off by 1"
    assert records[2] == {
        "step": "first", "task": "hangs", "outcome": FAILED, "seconds": 5.0, "at": 6.0,
        "why": "it took longer than 5 s",
    }  # fmt: skip
    assert "longer than 33 s" in records[4]["why"] and "KeyError" in records[6]["why"]
    assert CLOCK.now == 90.0


def test_what_a_step_leaves_over_is_for_the_next(tmp_path: Path) -> None:
    late = Step("second", 10, lambda: [Task("long", takes, (45.0,))])
    quick = first(Task("quick", takes, (1.0,)))
    assert done(tmp_path / "a", quick, late, seconds=50)[1] == ("second", "long", GOOD)
    slow = first(Task("slow", takes, (39.0,)))
    assert done(tmp_path / "b", slow, late, seconds=50)[1] == ("second", "long", FAILED)


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "first.jsonl"
    tasks = [Task("one", takes, (1.0,)), Task("two", fails), Task("three", takes, (1.0,))]
    assert len(done(path, first(*tasks[:2]), seconds=40)) == 2
    with path.open("a") as file:
        file.write('{"step": "first", "task": "three", "outcome": "no time left"}\n{"step": "fir')
    assert done(path, first(*tasks)) == [("first", "three", GOOD)]
    assert done(path, first(*tasks)) == []
    path.write_text("not JSON\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Expecting"):
        Log(path)


# ---- tasks ---------------------------------------------------------------------------------------


@task
def ends(where: Where, error: Exception) -> dict[str, Any]:
    raise error


def test_after_a_fault_the_process_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="ValueError: a mistake"):
        ends(ON_CPU, ValueError("a mistake"))

    def fault(where: Where) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Where, "synchronize", fault)
    with pytest.raises(DeadError, match=r"a mistake \(CUDA error: an illegal"):
        ends(ON_CPU, ValueError("a mistake"))


SHAPE = Shape(50, 16, 2, 1, torch.float32)


def test_what_is_right_and_what_is_not() -> None:
    layout = bslang.compile("last(2) | rows(0)", block=16, target="torch")
    found = compare(ON_CPU, layout, SHAPE)
    assert found["wrong"] == "" and set(found["errors"]) == set(right.PARTS)
    assert not torch.are_deterministic_algorithms_enabled()
    other = bslang.compile("last(3)", block=16, target="torch")
    given = drawn(ON_CPU, SHAPE)
    results = [right.attend(each, given, {}) for each in (layout, other)]
    wrong = right.judge(results[1], results[0], torch.float32)["wrong"]
    assert [text.split()[0] for text in wrong.split("; ")] == list(right.PARTS)

    def changed(name: str, value: float) -> str:
        part = results[0][name].clone()
        part[0, 0, 49] = value
        return str(right.judge(results[0] | {name: part}, results[0], torch.float32)["wrong"])

    assert changed("dv", torch.nan).startswith("dv is off by nan")
    assert changed("lse", -torch.inf).startswith("lse is off by inf")
    empty = results[0] | {"lse": torch.full_like(results[0]["lse"], -torch.inf)}
    assert "not -inf" in right.judge(results[0], empty, torch.float32)["wrong"]


def test_inputs_lie_before_rows_of_nan() -> None:
    given = drawn(ON_CPU, SHAPE)
    assert given["k"].shape == (2, 1, 50, 16) and given["do"].shape == (2, 2, 50, 16)
    for name, x in given.items():
        assert x.isfinite().all() and x.requires_grad == (name != "do")
        beyond = torch.as_strided(x.detach(), (right.GUARD, 16), (16, 1), 50 * 16)
        assert beyond.isnan().all()


@pytest.mark.parametrize("name", [x for x in special.CASES if x not in ("fp16", "tf32")])
def test_special_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the torch target, which takes all of them; in fp32, since that is what it is fast in."""
    monkeypatch.setattr(Where, "dtype", torch.float32)
    specs = {each.name: each for each in carried.SPECIAL}

    def layouts(which: str) -> bslang.Layout:
        return bslang.compile(specs[which].spec, block=64, target="torch")

    found = special.CASES[name](ON_CPU, layouts)
    assert found["wrong"] == "" and (name == "two runs" or found["errors"]["dk"] < 1e-4)


@pytest.mark.parametrize("which", [decoding.CAUSAL, decoding.WINDOW])
@pytest.mark.parametrize("name", ["steps", "rows with lengths"])
def test_steps_of_decoding(name: str, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the torch target, which takes each row of a batch by itself."""
    monkeypatch.setattr(Where, "dtype", torch.float32)
    spec = next(each.spec for each in carried.SPECIAL if each.name == which)
    layout = bslang.compile(spec, block=64, target="torch")
    assert decoding.CASES[name](ON_CPU, layout)["wrong"] == ""
    other = bslang.compile("last(3t) & causal", block=64, target="torch")
    other._for_target = lambda target: layout  # type: ignore[method-assign]
    assert "out is off by" in decoding.CASES[name](ON_CPU, other)["wrong"]


# ---- what is carried -----------------------------------------------------------------------------


def test_what_is_timed_is_carried_once() -> None:
    wanted = carried.wanted()
    keys = [(each.spec, each.block) for each in wanted]
    assert len(set(keys)) == len(keys)
    assert len({each.folder for each in wanted}) == len(wanted) > 100
    for work in timed.TIMED:
        assert (work.pattern.spec, work.block) in keys
        assert work.length % work.block == 0 and work.dtype == "bfloat16"


def test_a_layout_is_made_once_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its kernels, which are compiled elsewhere."""
    files = api.files
    monkeypatch.setattr(api, "files", lambda *x, architectures, **more: files(*x))
    wanted = Carried("std/a.bsl:causal (x)", "heads { 0 -> last(2); 1 -> causal }", 16, dims=(64,))
    made = carried._prepare(str(tmp_path), wanted, "cuda:90")
    assert (made.folder, made.heads, made.short, made.length) == (
        "std-a.bsl-causal--x",
        2,
        200,
        1000,
    )
    carried._write(tmp_path, [made])
    assert carried.read(tmp_path) == [made]
    layout = carried.layout(str(tmp_path), made)
    assert (layout.block, set(layout.targets)) == ((16, 16), {"triton"})
    monkeypatch.setattr(api, "files", fails)
    assert carried._prepare(str(tmp_path), wanted, "cuda:90") == made  # as it is
    with pytest.raises(TypeError):
        carried._prepare(str(tmp_path), replace(wanted, dims=(128,)), "cuda:90")
    work = replace(timed.TIMED[0], pattern=workloads.Pattern("it", made.spec), block=16)
    monkeypatch.setattr(workloads, "CARRIED", {})
    timed.carry(str(tmp_path), [made], work)
    assert work.layout() is layout and work.layout("torch") is not layout


def test_tasks_can_be_sent_to_a_process(tmp_path: Path) -> None:
    layouts = [replace(each, heads=4, short=200, length=1000) for each in carried.wanted()]
    carried._write(tmp_path, layouts)

    class Nobody:
        def submit(self, *given: Any, timeout: float) -> Future[Any]:
            pickle.dumps(given)
            return Future()

    where = Where(CUDA)
    flexes = timed.compiling(where, Nobody(), 1.0)  # type: ignore[arg-type]
    steps = command.steps(where, tmp_path, layouts, flexes)
    assert sum(step.seconds for step in steps) == 480
    tasks = {step.name: list(step.tasks()) for step in steps}
    assert pickle.loads(pickle.dumps(tasks)).keys() == tasks.keys()
    assert len(tasks["right"]) > 200 and len(tasks["special"]) >= 17
    assert len(flexes.made) == 2 * 2 * (len(timed.TIMED) - 1)  # not with blocks of 64
    assert len(tasks["decoding"]) == 2 * len(decoding.CASES)
    ends = [step for step in steps if step.name.startswith("back end ")]
    assert [step.environment for step in ends] == [
        {"BSLANG_BACKENDS": "hopper"}, {"BSLANG_BACKENDS": "ampere"},
    ]  # fmt: skip
    kinds = [each.function for each in tasks[ends[0].name]]
    assert kinds[:2] == [right.check] * 2 and kinds[-2:] == [timed.beside] * 2
    (*_, left_out) = tasks["timed"][0].arguments
    assert set(left_out.values()) == {"it was not compiled in time"} and len(left_out) == 2
    names = [each.name for each in tasks["timed"]]
    assert len(set(names)) == len(names)


# ---- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no CUDA device here; `--on interpreter` tries the program out"),
        (("--on", "nothing"), "`--prepare` makes the folder"),
    ],
)
def test_what_is_missing_is_said(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["first", str(tmp_path / "none"), *arguments])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert str(stop.value.code).startswith("error: ") and message in str(stop.value.code)
