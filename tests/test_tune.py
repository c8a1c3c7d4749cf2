"""Tuning: which tiles are tried, which win, and how winners are stored, found and judged.

Times are made up, and kernels run under Triton's interpreter or not at all: no GPU is needed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import inputs
from reference import run as attended
from test_cli import Run, run  # noqa: F401  # a fixture

import bslang
from bslang import compiler, layouts
from bslang.codegen.triton import held, streamed
from bslang.dims import Dims
from bslang.errors import TargetError
from bslang.files import write_whole
from bslang.gpu import tune as tuner
from bslang.gpu.machine.devices import device as device_of
from bslang.gpu.tune import KERNELS, candidates, tune
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.prepared import Launched
from bslang.runtime.triton.tiles import Launch, launch
from bslang.runtime.triton.tuned import Tuned, store
from bslang.syntax.source import Source

pytest.importorskip("triton")

SPEC, BRAIN = "near = last(3)", torch.bfloat16
SIZE = Dims.of(64)
H100, A100, L40 = map(device_of, ("cuda:90", "cuda:80", "cuda:89"))
_MODULES = iter(range(1000))


def sides(block: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    q, k = block
    return (held(q), held(k)), (streamed(q)[0], streamed(k)[0])


# ---- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [(16, 16), (64, 64), (128, 128), (100, 100), (192, 16)], ids=str)
@pytest.mark.parametrize("dim", [16, 64, 128, 256])
@pytest.mark.parametrize("kernel", KERNELS)
def test_candidates_fit_the_device_and_the_blocks(
    kernel: str, dim: int, block: tuple[int, int]
) -> None:
    given = sides(block)
    (held_q, held_k), (met_q, met_k) = given
    most = (met_q, held_k) if kernel == "dkdv" else (held_q, met_k)
    for on in (H100, A100, L40):
        for itemsize in (2, 4):
            dims = Dims.of(dim)
            found = candidates(kernel, dims, itemsize, given, on)
            assert found[0] == launch(kernel, dims, itemsize, given, device=on)
            assert 2 <= len(found) <= 8
            assert len({str(each) for each in found}) == len(found)
            for each in found:
                tile = each.constants["TILE_Q"], each.constants["TILE_K"]
                assert all(side & (side - 1) == 0 for side in tile)
                assert all(16 <= side <= top for side, top in zip(tile, most, strict=True))
                assert each.options["num_warps"] in (4, 8) and each.options["num_stages"] >= 1
                assert each.constants.keys() == found[0].constants.keys()
            for each in found[1:]:
                q, k = (each.constants[name] * dim * itemsize for name in ("TILE_Q", "TILE_K"))
                kept, met = (2 * k, 2 * q) if kernel == "dkdv" else (q, 2 * k)
                kept *= 2 if kernel == "dq" else 1
                assert kept + each.options["num_stages"] * met <= on.shared


def test_candidates_differ_in_one_respect() -> None:
    first, *others = candidates("forward", SIZE, 2, sides((128, 128)), H100)
    assert others
    for each in others:
        pairs = [(each.constants[n], first.constants[n]) for n in ("TILE_Q", "TILE_K")]
        tiles = sum(mine != its for mine, its in pairs)
        stages = each.options["num_stages"] != first.options["num_stages"]
        warps = each.options["num_warps"] != first.options["num_warps"]
        # Warps go with the tile, and stages with shared memory.
        fewer = each.options["num_stages"] < first.options["num_stages"]
        assert tiles + stages + warps == 1 or (tiles == 1 and (fewer or not stages))


def test_tuning_reaches_tiles_of_128_with_2_stages() -> None:
    found = candidates("forward", Dims.of(128), 2, sides((128, 128)), A100)
    assert [
        (each.constants["TILE_Q"], each.constants["TILE_K"], each.options["num_stages"])
        for each in found
        if each.constants["TILE_K"] == 128
    ] == [(128, 128, 2)]


# ---- which wins ----------------------------------------------------------------------------------


def made(folder: Path, spec: str = SPEC) -> Path:
    """The module of a layout in a folder."""
    resolved = compiler.resolve(Source("spec.bsl", spec), block=64)
    return write_whole(folder, compiler.emit(resolved, ["triton"]))[0]


def imported(path: Path) -> tuple[bslang.Layout, TritonTarget]:
    """A module as another process has it: what it found before is forgotten."""
    layout = layouts.import_file(path, f"tuned_{next(_MODULES)}").LAYOUT
    target = layout.targets["triton"]
    assert isinstance(target, TritonTarget)
    return layout, target


class Clock:
    """Runs nothing, and gives a pass the time that `times` says for the tiles of a kernel."""

    def __init__(
        self, target: TritonTarget, times: Callable[[str, Launch], float], dims: Dims = SIZE
    ) -> None:
        self.target, self.times, self.dims = target, times, dims

    def __call__(self, call: Callable[[], object]) -> float:
        q, v = (torch.zeros(1, 1, 1, dim, dtype=BRAIN) for dim in self.dims)
        return sum(self.times(kernel, self.target._launch(kernel, q, v)) for kernel in KERNELS)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Launches on a GPU that is not there: they do nothing, and are listed."""
    found: list[Launch] = []

    def start(
        self: Any, kernel: str, chosen: Launch, programs: int, given: tuple[Any, ...]
    ) -> Launched:
        found.append(chosen)
        for tensor in given:
            if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
                continue
            if 0 not in tensor.stride():  # as sinks of one number have, which are only read
                tensor.nan_to_num_(0.0, 0.0, 0.0)  # memory that no kernel has written to
        return Launched(None, None, ())

    monkeypatch.setattr(TritonTarget, "missing", lambda self, device: "")
    monkeypatch.setenv("BSLANG_BACKENDS", "ampere")  # those that have tiles to choose from
    monkeypatch.setattr(TritonTarget, "_start", start)
    monkeypatch.setattr(tuner, "_agree", lambda result, expected: True)
    monkeypatch.setattr(Device, "of", lambda device: H100)
    return found


def tuned(layout: bslang.Layout, times: Callable[[str, Launch], float]) -> dict[str, Tuned]:
    """Winners by kernel, on the CPU in place of a GPU."""
    target = layout.targets["triton"]
    assert isinstance(target, TritonTarget)
    bench = Clock(target, times)
    cpu = torch.device("cpu")
    return {
        each.kernel: each for each in tune(layout, 200, [64], ["bf16"], 2, device=cpu, bench=bench)
    }


def half(kernel: str, chosen: Launch) -> float:
    """Of every kernel the tile of half the streamed rows is the fastest."""
    return float(chosen.constants["TILE_Q" if kernel == "dkdv" else "TILE_K"])


def test_the_fastest_wins(tmp_path: Path, device: list[Launch]) -> None:
    layout, target = imported(made(tmp_path))

    def times(kernel: str, chosen: Launch) -> float:
        return {4: 2.0, 8: 1.0}[chosen.options["num_warps"]] + chosen.options["num_stages"] / 10

    found = tuned(layout, times)
    for kernel in KERNELS:
        options = launch(kernel, SIZE, 2, target.sides, device=H100).options
        chosen = found[kernel].options
        if options["num_warps"] == 4:
            assert chosen == {"num_warps": 8, "num_stages": options["num_stages"]}
        else:
            assert chosen == {"num_warps": 8, "num_stages": options["num_stages"] - 1}
        assert found[kernel].times["best"] < 0.98 * found[kernel].times["default"]
        assert (found[kernel].length, found[kernel].device) == (200, "cpu")


@pytest.mark.parametrize(("share", "wins"), [(0.985, False), (0.975, True)])
def test_the_default_stays_unless_much_is_saved(
    tmp_path: Path, device: list[Launch], share: float, wins: bool
) -> None:
    layout, target = imported(made(tmp_path))
    normal = {k: launch(k, SIZE, 2, target.sides, device=H100) for k in KERNELS}

    def times(kernel: str, chosen: Launch) -> float:
        return 0.0 if kernel != "dq" else 1.0 if chosen == normal["dq"] else share

    won = {
        kernel: (each.tile, each.options)
        != (
            {name: normal[kernel].constants[name] for name in ("TILE_Q", "TILE_K")},
            {name: normal[kernel].options[name] for name in ("num_warps", "num_stages")},
        )
        for kernel, each in tuned(layout, times).items()
    }
    assert won == {"forward": False, "dq": wins, "dkdv": False}


def test_what_computes_something_else_does_not_win(
    tmp_path: Path, device: list[Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, target = imported(made(tmp_path))
    monkeypatch.setattr(tuner, "_agree", lambda result, expected: False)
    for kernel, each in tuned(layout, half).items():
        default = launch(kernel, SIZE, 2, target.sides, device=H100)
        assert each.tile.items() <= default.constants.items()
        assert each.times["best"] == each.times["default"]


def test_what_a_device_refuses_is_left_out(
    tmp_path: Path, device: list[Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, target = imported(made(tmp_path))
    start = TritonTarget._start

    def refuse(self: Any, kernel: str, chosen: Launch, *rest: Any) -> Any:
        if (
            chosen.options["num_warps"]
            != target.default(kernel, *rest[1][:1] * 2).options["num_warps"]
        ):
            raise RuntimeError("out of resource: shared memory")
        return start(self, kernel, chosen, *rest)

    monkeypatch.setattr(TritonTarget, "_start", refuse)
    for kernel, each in tuned(layout, lambda k, chosen: 1 / chosen.options["num_warps"]).items():
        default = launch(kernel, SIZE, 2, target.sides, device=H100)
        assert each.options["num_warps"] == default.options["num_warps"]


def test_results_agree_up_to_rounding() -> None:
    x = torch.randn(4, 100)
    infinite = torch.full((4,), -torch.inf)
    assert tuner._agree(x * (1 + 1e-5), x) and tuner._agree(infinite, infinite)
    assert tuner._agree((x * 1.003).to(BRAIN), x.to(BRAIN))
    assert not tuner._agree(x + 0.1, x) and not tuner._agree(x * torch.nan, x)
    assert not tuner._agree(infinite, torch.zeros(4))


# ---- beside the module ---------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path, device: list[Launch]) -> Path:
    """A module with winners beside it: half the rows streamed, for every kernel."""
    path = made(tmp_path)
    layout, target = imported(path)
    store(target.kernels["forward"], target.sides, tuned(layout, half).values())
    device.clear()
    return path


def streamed_rows(path: Path, device: list[Launch], dtype: torch.dtype = BRAIN) -> list[int]:
    """What calls of a module in another process launch: the rows streamed of each kernel."""
    _, target = imported(path)
    q = torch.zeros(1, 1, 8, 64, dtype=dtype)
    chosen = {kernel: target._launch(kernel, q, q) for kernel in KERNELS}
    assert all(each.constants["SOFTCAP"] == 0.0 for each in chosen.values())  # the call says others
    return [chosen[k].constants["TILE_Q" if k == "dkdv" else "TILE_K"] for k in KERNELS]


@pytest.fixture
def default(tmp_path: Path, device: list[Launch]) -> list[int]:
    return streamed_rows(made(tmp_path / "other"), device)


def test_winners_are_used_by_the_next_process(
    stored: Path, device: list[Launch], default: list[int]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = streamed_rows(stored, device)
        assert found == [max(16, rows // 2) for rows in default] != default
        assert streamed_rows(stored, device, torch.float16) == default
        layout, _ = imported(stored)
        q = torch.zeros(1, 2, 100, 64, dtype=BRAIN)
        layout(q, q, q)
    assert [each.constants["TILE_K"] for each in device] == found[:1]


def test_the_file_says_what_it_is(stored: Path) -> None:
    import triton

    content = json.loads(stored.with_suffix(".tune.json").read_text("utf-8"))
    assert content["about"].startswith("generated by bslang")
    assert content["triton"] == triton.__version__
    assert [each["kernel"] for each in content["entries"]] == sorted(KERNELS)
    for each in content["entries"]:
        assert (each["device"], each["head_dim"], each["dtype"]) == ("cpu", 64, "bf16")
        assert each["times"]["best"] < each["times"]["default"]


def test_files_of_before_have_one_dimension(stored: Path, device: list[Launch]) -> None:
    file = stored.with_suffix(".tune.json")
    content = json.loads(file.read_text("utf-8"))
    assert all(each.pop("value_dim") == 64 for each in content["entries"])
    before = imported(stored)[1].tuned
    file.write_text(json.dumps(content), encoding="utf-8")
    assert imported(stored)[1].tuned == before and len(before) == len(KERNELS)


def test_values_of_another_dimension_have_tiles_of_their_own(
    tmp_path: Path, device: list[Launch]
) -> None:
    layout, target = imported(made(tmp_path))
    cpu, bench = torch.device("cpu"), Clock(target, half, Dims(64, 32))
    found = tune(layout, 200, [(64, 32)], ["bf16"], 2, device=cpu, bench=bench)
    assert {(each.head_dim, each.value_dim) for each in found} == {(64, 32)}
    q, v = torch.zeros(1, 1, 8, 64, dtype=BRAIN), torch.zeros(1, 1, 8, 32, dtype=BRAIN)
    for kernel in KERNELS:
        assert target._launch(kernel, q, v) != target.default(kernel, q, v)
        assert target._launch(kernel, q, q) == target.default(kernel, q, q)


def test_winners_of_other_calls_stay(stored: Path, device: list[Launch]) -> None:
    _, target = imported(stored)
    entry = next(iter(target.tuned.values()))
    other = Tuned(**vars(entry) | {"device": "NVIDIA H100"})
    store(target.kernels["forward"], target.sides, [other])
    _, again = imported(stored)
    assert again.tuned == target.tuned | {other.key: other}


def test_other_devices_have_the_default(
    stored: Path, device: list[Launch], default: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bslang.runtime.triton.kernels.device_name", lambda device: "NVIDIA A100")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert streamed_rows(stored, device) == default


def spoil(path: Path, how: str) -> None:
    file = path.with_suffix(".tune.json")
    content = json.loads(file.read_text("utf-8"))
    entry = content["entries"][0]
    if how == "cut":
        file.write_text(file.read_text("utf-8")[:-40], "utf-8")
        return
    if how == "module":
        path.write_text(path.read_text("utf-8") + "\n# changed\n", "utf-8")
    elif how == "list":
        content = []
    elif how == "tile":
        entry["tile"]["TILE_Q"] = 4096
    elif how == "odd":
        entry["tile"]["TILE_Q"] = 48
    elif how == "text":
        entry["options"]["num_stages"] = "3"
    elif how == "more":
        entry["options"]["maxnreg"] = 16
    else:
        content[how] = 0
    file.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("module", "was not made with near.py"),
        ("format", "was not made with near.py"),
        ("triton", "is for triton 0, and .* is installed"),
        *((how, "is damaged") for how in ("cut", "list", "tile", "odd", "text", "more", "entries")),
    ],
)
def test_files_that_are_wrong_are_warned_of_once(
    stored: Path, device: list[Launch], default: list[int], how: str, message: str
) -> None:
    spoil(stored, how)
    with pytest.warns(RuntimeWarning, match=f"{message}.*tune the layout again") as caught:
        assert streamed_rows(stored, device) == default
    assert len(caught) == 1


# ---- for real, under the interpreter -------------------------------------------------------------


def tuned_for_real(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # in a process that other tests have, too
        patch.setattr(Device, "of", lambda device: H100)
        compare_tuned(folder)


def compare_tuned(folder: Path) -> None:
    path = made(folder, "near = last(3) | cols(0)")
    layout, target = imported(path)
    normal = {kernel: target.default(kernel, *[torch.zeros(1, 1, 1, 16)] * 2) for kernel in KERNELS}

    def bench(call: Callable[[], object]) -> float:
        q = torch.zeros(1, 1, 1, 16)
        return sum(1.0 + (target._launch(k, q, q) == normal[k]) for k in KERNELS)

    cpu = torch.device("cpu")
    found = tune(layout, 80, [16], ["fp32"], 2, device=cpu, bench=bench)
    store(target.kernels["forward"], target.sides, found)
    again, other = imported(path)
    assert list(other.tuned.values()) == sorted(found, key=lambda each: each.key)
    for kernel in KERNELS:
        assert other._launch(kernel, *[torch.zeros(1, 1, 1, 16)] * 2) != normal[kernel]
    given = inputs(80, 80)
    plain = bslang.compile("last(3) | cols(0)", block=64, target="torch")
    errors = attended(again, given).error(attended(plain, given))
    assert max(errors.values()) < 1e-4


def test_tuned_kernels_compute_the_same(interpreting: Executor, tmp_path: Path) -> None:
    interpreting.submit(tuned_for_real, tmp_path).result()


# ---- the command ---------------------------------------------------------------------------------


needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@needs_no_gpu
def test_the_command_needs_a_gpu_and_writes_the_module(run: Run) -> None:  # noqa: F811
    done = run("compile", "spec.bsl:near", "-o", "out", "--target", "triton", "--tune", "4096")
    assert (done.status, done.out) == (1, "out/near.py\n")
    assert done.err == (
        "error: tuning needs a GPU, and this machine has none; "
        "out/near.py is written, with the default tiles\n"
    )


def test_the_command_lists_the_file(
    run: Run,  # noqa: F811
    device: list[Launch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_the_cpu(layout: bslang.Layout, length: int, dims: Any, dtypes: Any, heads: int) -> Any:
        assert (length, dims, dtypes) == (4096, [SIZE], ["bf16"])
        return tuned(layout, half).values()

    monkeypatch.setattr(tuner, "tune", on_the_cpu)
    given = ["--target", "triton", "--tune", "4096", "--head-dim", "64"]
    done = run("compile", "spec.bsl:near", "-o", "out", *given)
    assert (done.status, done.err) == (0, "")
    assert done.out == "out/near.py\nout/near.tune.json\n"
    _, target = imported(Path("out/near.py"))
    assert len(target.tuned) == 3


def test_the_command_tunes_the_triton_target_only(run: Run) -> None:  # noqa: F811
    done = run("compile", "spec.bsl:near", "-o", "out", "--target", "torch", "--tune", "4096")
    assert done.status == 2 and "needs the triton target" in done.err
    assert not Path("out").exists()


def test_the_command_leaves_files_of_others_alone(run: Run) -> None:  # noqa: F811
    Path("out").mkdir()
    Path("out/near.tune.json").write_text("{}", encoding="utf-8")
    done = run("compile", "spec.bsl:near", "-o", "out", "--target", "triton", "--tune", "4096")
    assert done.status == 1 and "near.tune.json was not written by bslang" in done.err
    assert not Path("out/near.py").exists()


def test_what_cannot_be_tuned_is_said(tmp_path: Path, device: list[Launch]) -> None:
    layout, _ = imported(made(tmp_path))
    for dims, dtypes, message in (
        ([300], ["bf16"], "the head dimension must be from 1 to 256, not 300"),
        ([64], ["fp8"], "unknown dtype 'fp8'"),
    ):
        with pytest.raises(TargetError, match=message):
            tune(layout, 200, dims, dtypes, 2, device=torch.device("cpu"))
