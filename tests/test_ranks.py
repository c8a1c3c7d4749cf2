"""`stats --ranks` and `show --ranks`: what a group of ranks holds, moves and takes, in words and pictures."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from test_cli import Run, run

import bslang
from bslang import compiler
from bslang.analysis.cells import Cells
from bslang.placement.model import H100, times
from bslang.placement.others import others
from bslang.placement.placed import Demand, placed
from bslang.placement.traffic import Sizes, memory, traffic
from bslang.reports.division import division
from bslang.reports.ranks import Group, RanksReport
from bslang.syntax.source import Source

__all__ = ["run"]  # the fixture

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"


def resolved(spec: str) -> compiler.Resolved:
    return compiler.resolve(Source("<test>", spec), block=16)


def test_stats_print_how_ranks_share_a_layout(run: Run) -> None:
    options = (
        "--seq-len",
        "64k",
        "--ranks",
        "8",
        "--heads",
        "4",
        "--kv-heads",
        "2",
        "--head-dim",
        "32",
    )
    done = run("stats", BIGBIRD, *options)
    lines = done.out.split("\n\n")[-1].splitlines()
    said = {line[:18].strip(): line[18:] for line in lines}
    found = json.loads(run("stats", BIGBIRD, *options, "--json").out)["ranks"]
    assert done.status == 0
    assert said["ranks"] == "8; 4 query heads, 2 key heads of 32 in bf16, sums in fp32"
    assert re.fullmatch(
        r"128 blocks per rank in \d chunks?; work at most 1\.0.* the mean", said["placement"]
    )
    assert said["spread rows"] == "2, computed by all ranks" and found["spread"] == 2
    assert f"at most {found['fetched']['most']:,} of 1,792 that" in said["fetched blocks"]
    assert said["shared blocks"] == (
        f"{found['shared']}, got by all ranks" if found["shared"] else "none"
    )
    assert {"forward", "backward", "all-gather", "ring", "Ulysses", "memory"} < said.keys()
    shares = found["shares"]
    assert [each["term"] for each in shares] == BIGBIRD.split(" | ")
    assert sum(each["needed"] for each in shares) == pytest.approx(1)
    assert shares[1]["spread"] > 0.9 < shares[2]["needed"]


def test_figures_are_those_of_the_plan() -> None:
    group = Group(8, 4, 2, 32)
    report = RanksReport.of(resolved(BIGBIRD), 16384, group)
    sizes = Sizes(32, 32)
    tables = compiler.tables(resolved(BIGBIRD), 16384, 16384, "end", range(4), 0)
    demand = Demand(tables.graphs, tables.head_graph, 4, 2)
    exchange = demand.exchange(placed([demand], 8, sizes), sizes)
    passes, taken = traffic(exchange, sizes), memory(exchange, sizes)
    for most, each in zip(report.received, passes, strict=True):
        assert most.most == each.total.received.max()
        assert most.mean == each.total.received.mean()
    assert report.balance == exchange.balance and report.seconds == times(exchange, sizes, H100)
    assert report.memory["backward"].most == taken.backward.max() > 0
    shard = 2048 * (4 * (64 * 2 + 4) + 2 * 64 * 2)
    assert report.memory["shard"].most == report.memory["shard"].mean == shard


def test_other_ways_move_what_their_papers_say() -> None:
    sizes, blocks = Sizes(8, 8, item=2, part=4), 64
    tables = compiler.tables(resolved("causal"), blocks * 16, blocks * 16, "end", range(8), 0)
    exchange = Demand(tables.graphs, None, 8, 2).exchange(
        placed([Demand(tables.graphs, None, 8, 2)], 4)
    )
    gather, ring, ulysses = others(exchange, sizes, H100)
    shard = blocks * 16 // 4 * 2 * 16 * 2
    assert gather.received == (3 * shard, 6 * shard)
    assert ring.received == (3 * shard, 9 * shard)
    each = (
        blocks * 16 // 4 * 2 * 3 // 4
    )  # bytes of a number of each token of a shard, to other ranks
    assert ulysses.received == (each * (8 * 8 + 4 * 16 + 8 * 8),) * 2
    more = Demand(tables.graphs, None, 2, 2).exchange(
        placed([Demand(tables.graphs, None, 2, 2)], 4)
    )
    assert others(more, sizes, H100)[2].received is None


def test_heads_with_layouts_of_their_own_are_all_planned(run: Run) -> None:
    done = run("stats", "heads { 0:2 -> causal; 2: -> last(2) & causal }", "--ranks", "4", "--json")
    found = json.loads(done.out)["ranks"]
    assert (found["heads"], found["key_heads"]) == (4, 4)
    assert 0 < found["fetched"]["mean"] < 3 * found["blocks"] * 4


def test_a_layout_of_some_heads_is_planned_for_those() -> None:
    layout = bslang.compile("heads { 0:2 -> causal; 2: -> last(2) & causal }", target="torch")
    local = layout.at_heads(2).stats(4096, ranks=4, heads=2).ranks
    assert local.fetched.most == 2 < layout.stats(4096, ranks=4, heads=2).ranks.fetched.most


def test_labels_are_said_to_decide_more(run: Run) -> None:
    said = run("stats", "same(doc) & last(4)", "--ranks", "4").out
    assert re.search(r"at a call +labels may leave out more; here all blocks count", said)


def test_show_draws_the_rows_of_ranks_and_what_they_fetch(run: Run) -> None:
    done = run("show", "last(2) & causal", "--ranks", "3", "--seq-len", "768", "--ascii")
    assert done.status == 0 and done.err == ""
    assert done.out.splitlines()[3:] == [
        "aa...................... rank 0",
        "aaaa....................",
        "..aaaa..................",
        "....aaaa................",
        "......bbaa.............. rank 1",
        "........aaaa............",
        "..........aaaa..........",
        "............aaaa........",
        "..............bbaa...... rank 2",
        "................aaaa....",
        "..................aaaa..",
        "....................aaaa",
        "",
        "each cell a block, .. empty",
        "aa keys of the same rank: 21 blocks",
        "bb keys of other ranks: 2 blocks",
        "rank 0: rows 0:4",
        "rank 1: rows 4:8; fetches column 3",
        "rank 2: rows 8:12; fetches column 7",
    ]


def test_pictures_partition_the_blocks(tmp_path: Path) -> None:
    layout = resolved("window(3) | global(0)")
    exchange = Group(8, 2).exchange(layout, 4096)
    (graph,) = exchange.graphs
    parts = division(exchange).parts(graph)
    assert [name for name, _ in parts] == [
        "keys of the same rank",
        "keys of other ranks",
        "keys that all ranks get",
        "spread rows, computed where the keys are",
    ]
    cells = np.concatenate([runs.cells() for _, runs in parts])
    assert np.array_equal(np.sort(cells), graph.visited.cells())
    row, column = np.divmod(parts[0][1].cells(), graph.grid.m)
    assert (exchange.row_owner[row] == exchange.column_owner[column]).all()
    drawn = bslang.compile("window(3) | global(0)", block=16, target="torch").show(4096, ranks=8)
    texts = [
        each.text for each in ET.fromstring(drawn.svg()).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert [text for text in texts if text and re.fullmatch(r"rank \d", text)] == [
        f"rank {rank}" for rank in range(8)
    ]
    assert "rank 7: rows 224:256; fetches column 223" in texts
    assert drawn.save(tmp_path / "a.png").stat().st_size > 1000


def test_rows_of_several_ranks_say_that_more_begin() -> None:
    from bslang.picture.picture import _beside

    cells = Cells((6, 6), 0, 2, 2)
    assert list(_beside(["a", "a", "a", "b", "c", "d"], cells)) == ["a", "b", "c ..."]


def test_a_gather_is_said_to_be_one(run: Run) -> None:
    assert (
        "exchange          all-gather: anything else" in run("stats", "causal", "--ranks", "4").out
    )
    said = run("show", "causal", "--ranks", "4", "--ascii").out
    assert "every rank gets all keys" in said and "fetches" not in said


def test_methods_take_ranks_too(run: Run) -> None:
    layout = bslang.compile(BIGBIRD, target="torch")
    options = "--ranks", "4", "--heads", "4", "--kv-heads", "2"
    answer = layout.stats(4096, ranks=4, heads=4, kv_heads=2)
    said = run("stats", BIGBIRD, "--seq-len", "4096", *options).out
    assert str(answer).replace("<spec>", "<expression>") == said.rstrip("\n")
    assert answer.ranks.ranks == 4 and layout.stats(4096).ranks is None
    said = run("show", BIGBIRD, "--seq-len", "4096", "--ranks", "4").out
    assert str(layout.show(4096, ranks=4)) == said.rstrip("\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "0"], "0 is not in the range 1<=x<=4096"),
        (["--ranks", "4097"], "4097 is not in the range 1<=x<=4096"),
        (["--kv-heads", "2"], "only with --ranks"),
        (
            ["--ranks", "2", "--heads", "8", "--kv-heads", "3"],
            "3 does not divide the 8 query heads",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(run: Run, options: list[str], message: str) -> None:
    done = run("stats", "causal", *options)
    assert done.status == 2 and message in " ".join(done.err.split())


def test_methods_refuse_them_as_well(run: Run) -> None:
    layout = bslang.compile("causal", target="torch")
    with pytest.raises(ValueError, match="leave `terms` out"):
        layout.show(256, ranks=2, terms=True)
    done = run("show", "causal", "--ranks", "2", "--terms")
    assert done.status == 2 and "not with --ranks" in " ".join(done.err.split())
    for given, message in (
        ({"ranks": 0}, "ranks must be an integer of at least 1, not 0"),
        ({"ranks": 5000}, r"ranks is at most 4096 \(MAX_RANKS\), not 5000"),
        ({"kv_heads": 2}, "kv_heads is for `ranks`"),
        ({"ranks": 2, "heads": 8, "kv_heads": 3}, "8 query heads cannot share 3 key heads"),
    ):
        with pytest.raises(ValueError, match=message):
            layout.stats(256, **given)


@pytest.mark.parametrize("command", ["stats", "show"])
def test_layouts_that_calls_refuse_are_refused(command: str, run: Run) -> None:
    done = run(command, "select(pick) & causal", "--ranks", "4")
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", done.err).split())
    assert done.status == 2 and "this layout has selections (pick)" in said
