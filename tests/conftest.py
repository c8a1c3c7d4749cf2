"""Settings of the whole suite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

# Nothing is timed: a slow machine is no failure. Examples are the same on every run.
settings.register_profile("bslang", deadline=None, derandomize=True)
settings.load_profile("bslang")

# Tests run one process a core; threads of their own would only wait for one another.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Generated modules and built kernels go to a folder of the session's."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
