from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.cli.clean import CleanSelection, ProjectPath, perform_clean
from parallel_hpo.core.errors import UsageError
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.runs import RunUpsert
from tests.cli.conftest import Command
from tests.records.test_directory import made
from tests.server.removal.test_sweep_removal import has_project, performed
from tests.server.server_logic import Services

MANY = 20_000


@pytest.fixture
def kept_and_old(tmp_path: Path) -> tuple[str, str]:
    """Two finished sweeps on an embedded server; one has a folder."""
    services = Services(tmp_path)
    kept, _ = performed(services)
    old, _ = performed(services, lines=MANY)
    services.close()
    made(tmp_path).rename(tmp_path / old)
    return kept, old


def test_clean_removes_a_sweeps_data_from_the_server(
    tmp_path: Path, command: Command, kept_and_old: tuple[str, str]
) -> None:
    kept, old = kept_and_old
    size = (tmp_path / "server.db").stat().st_size
    (status,) = json.loads(command("status", "--json", "--directory", str(tmp_path)).stdout)
    assert (status["sweep"], status["rows"]) == (old, MANY + 1)
    assert size > status["bytes"] > MANY
    assert "without a folder here: 1; " in command("clean", "--directory", str(tmp_path)).stderr
    (dry,) = json.loads(command("clean", "--json", "--directory", str(tmp_path)).stdout)
    assert (dry["rows"], dry["bytes"], dry["removed"]) == (MANY + 1, status["bytes"], False)
    assert (tmp_path / "server.db").stat().st_size == size
    (done,) = json.loads(command("clean", "--yes", "--all", "--json", "--directory", str(tmp_path)).stdout)
    assert done["removed"]
    assert not (tmp_path / old).exists()
    assert (tmp_path / "server.db").stat().st_size < size / 4
    services = Services(tmp_path)
    assert sum(services.progress(kept).runs.values()) == 1
    services.close()


def test_status_ignores_an_unreadable_database(tmp_path: Path, command: Command) -> None:
    made(tmp_path)
    (tmp_path / "server.db").write_bytes(b"no database" * 1000)
    shown = command("status", "--json", "--directory", str(tmp_path))
    (status,) = json.loads(shown.stdout)
    assert (status["sweep"], status["rows"], status["bytes"]) == ("sweep1", None, None)
    assert (status["device_hours"], status["device_kwh"], status["cpu_kwh"]) == (None, None, None)
    assert "server.db" in shown.stderr


def cleaned(
    capsys: pytest.CaptureFixture[str], directory: Path, wanted: CleanSelection
) -> list[dict[str, Any]]:
    """Clean the selected sweeps, and return the JSON of each."""
    perform_clean(directory, wanted, yes=True, as_json=True)
    answer: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return answer


def test_clean_refuses_yes_without_a_selection(tmp_path: Path, command: Command) -> None:
    made(tmp_path)
    refused = command("clean", "--yes", "--directory", str(tmp_path))
    assert refused.returncode == 2
    for way in ("Name the sweeps", "--older-than 30d", "--all"):
        assert way in refused.stderr
    assert (tmp_path / "sweep1").is_dir()
    assert command("clean", "--all", "sweep1", "--directory", str(tmp_path)).returncode == 2
    assert command("clean", "--yes", "--all", "--directory", str(tmp_path)).returncode == 0
    assert not (tmp_path / "sweep1").exists()


def test_a_named_sweep_without_a_folder_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = Services(tmp_path)
    sweep, _ = performed(services)
    kept, _ = performed(services)
    (said,) = cleaned(capsys, tmp_path, CleanSelection([sweep]))
    assert (said["sweep"], said["folder"], said["removed"]) == (sweep, None, True)
    assert said["lost"] == ["it can be resumed"]
    with pytest.raises(UsageError, match="there is no sweep"):
        cleaned(capsys, tmp_path, CleanSelection([sweep]))
    assert sum(services.progress(kept).runs.values()) == 1
    services.close()


def test_a_project_is_removed_with_all_its_sweeps_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services = Services(tmp_path)
    sweep, _ = performed(services)
    run_service.upsert(services.world, RunUpsert(name="alone", project="p"))
    made(tmp_path).rename(tmp_path / sweep)
    said = cleaned(capsys, tmp_path, CleanSelection(project=ProjectPath.parse("p")))
    removed = [(each["sweep"], each["project"], each["removed"]) for each in said]
    assert removed == [(sweep, None, True), (None, "local/p", True)]
    assert said[1]["lost"] == ["with 1 runs of no sweep"]
    assert not (tmp_path / sweep).exists()
    assert not has_project(services)
    with pytest.raises(UsageError, match="there is no project local/p"):
        cleaned(capsys, tmp_path, CleanSelection(project=ProjectPath.parse("p")))
    services.close()


def test_an_active_project_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = Services(tmp_path)
    old, _ = performed(services)
    services.set_state(old, "FINISHED")
    services.clock.now = time.time()
    sweep, _ = performed(services)
    said = cleaned(capsys, tmp_path, CleanSelection(project=ProjectPath.parse("local/p")))
    kept = {each["sweep"]: each["keep"] for each in said}
    assert kept == {old: "", sweep: "it is running", None: f"sweep {sweep} of it stays"}
    assert has_project(services)
    services.close()


def test_clean_accepts_an_age_in_any_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path)
    for file in tmp_path.rglob("*"):
        os.utime(file, (time.time() - 3600,) * 2)
    for age, keep in (("30m1s", ""), ("1h30m", "it is not that old")):
        perform_clean(tmp_path, CleanSelection(older_than=age), yes=False, as_json=True)
        assert [each["keep"] for each in json.loads(capsys.readouterr().out)] == [keep]
    with pytest.raises(UsageError, match="--older-than 1x: allowed: a duration in w, d, h, m and s"):
        perform_clean(tmp_path, CleanSelection(older_than="1x"), yes=False, as_json=True)
