"""Tasks of benchmarks in processes of their own: what one of them does is not the end of the others."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks.workers import DeadError, TaskError, Workers


def broken() -> None:
    raise DeadError("an illegal memory access")


def test_a_task_that_fails_dies_or_takes_too_long() -> None:
    with Workers(1, {"OF_WORKERS": "1"}) as workers:
        before = workers.submit(os.getpid)
        unsent = workers.submit(lambda: None)
        failed = workers.submit(int, "one")
        same = workers.submit(os.getpid)
        died = workers.submit(os._exit, 3)
        late = workers.submit(time.sleep, 60, timeout=0.2)
        useless = workers.submit(broken)
        other = workers.submit(os.getpid)
        after = workers.submit(os.getenv, "OF_WORKERS")
        assert before.result() == same.result() != os.getpid()
        with pytest.raises(TaskError, match="it cannot be sent"):
            unsent.result()
        with pytest.raises(TaskError, match="invalid literal for int"):
            failed.result()
        with pytest.raises(TaskError, match="its process ended with 3"):
            died.result()
        with pytest.raises(TaskError, match=r"it took longer than 0\.2 s"):
            late.result()
        with pytest.raises(TaskError, match="an illegal memory access"):
            useless.result()
        assert other.result() != before.result()
        assert after.result() == "1" and "OF_WORKERS" not in os.environ


def test_what_is_not_done_when_they_are_closed_is_stopped() -> None:
    begin = time.monotonic()
    with Workers(1) as workers:
        running, waiting = (workers.submit(time.sleep, 60) for _ in range(2))
        while not running.running():
            time.sleep(0.01)
    assert time.monotonic() - begin < 30
    with pytest.raises(TaskError, match=r"ended|stopped"):
        running.result()
    assert waiting.cancelled()
