from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.acting import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """The server's logic on a fresh database."""
    stage = Stage(tmp_path)
    yield stage
    stage.close()
