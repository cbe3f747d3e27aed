from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.acting import Stage
from tests.server.test_sweep_removal import performed
from tests.supervisor.records.test_cleaning import made

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MANY = 20_000


@pytest.fixture
def kept_and_old(tmp_path: Path) -> tuple[str, str]:
    """Two finished sweeps that an embedded server has; one has a folder, and so is known."""
    stage = Stage(tmp_path)
    kept, _ = performed(stage)
    old, _ = performed(stage, lines=MANY)
    stage.close()
    made(tmp_path).rename(tmp_path / old)
    return kept, old


def test_clean_takes_what_the_embedded_server_has_of_a_sweep_and_gives_the_room_back(
    tmp_path: Path, command: Command, kept_and_old: tuple[str, str]
) -> None:
    kept, old = kept_and_old
    size = (tmp_path / "server.db").stat().st_size
    (status,) = json.loads(command("status", "--json", "--directory", str(tmp_path)).stdout)
    assert (status["sweep"], status["rows"]) == (old, MANY + 1)
    assert size > status["bytes"] > MANY
    (dry,) = json.loads(command("clean", "--json", "--directory", str(tmp_path)).stdout)
    assert (dry["rows"], dry["bytes"], dry["removed"]) == (MANY + 1, status["bytes"], False)
    assert (tmp_path / "server.db").stat().st_size == size
    (done,) = json.loads(command("clean", "--yes", "--json", "--directory", str(tmp_path)).stdout)
    assert done["removed"]
    assert not (tmp_path / old).exists()
    assert (tmp_path / "server.db").stat().st_size < size / 4
    stage = Stage(tmp_path)
    assert sum(stage.progress(kept).runs.values()) == 1
    stage.close()


def test_status_goes_without_a_database_that_cannot_be_read(tmp_path: Path, command: Command) -> None:
    made(tmp_path)
    (tmp_path / "server.db").write_bytes(b"no database" * 1000)
    shown = command("status", "--json", "--directory", str(tmp_path))
    (status,) = json.loads(shown.stdout)
    assert (status["sweep"], status["rows"], status["bytes"]) == ("sweep1", None, None)
    assert "server.db" in shown.stderr
