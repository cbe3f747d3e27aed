"""`parallel-hpo clean --database`: what a server has whose sweeps have no folder here."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.cli.clean import CleanSelection
from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.files.folder import folder_request, open_folder
from tests.cli.test_clean import cleaned
from tests.server.acting import START, SessionSetup
from tests.server.removal.test_sweep_removal import has_project, performed


def is_file(stage: SessionSetup) -> bool:
    return "://" not in stage.where


def kept_for_nothing(stage: SessionSetup) -> int:
    """Free pages of SQLite's file; of PostgreSQL's, in which there are no lines any more, the bytes."""
    with stage.world.database.read() as transaction:
        ask = "PRAGMA freelist_count" if is_file(stage) else "SELECT pg_relation_size('lines')"
        return int(transaction.exec_driver_sql(ask).scalar_one())


def test_sweeps_of_another_server_go_once_they_are_over(
    tmp_path: Path, stage: SessionSetup, capsys: pytest.CaptureFixture[str]
) -> None:
    over, _ = performed(stage)
    stage.set_state(over, "FINISHED")
    stage.clock.now = START + 1
    open_one, _ = performed(stage, lines=2_000)
    where = stage.where
    files = str(stage.world.files)
    open_folder(stage.world.database, folder_request(where, files, adopt=True), host="gpu1")
    if not is_file(stage):  # on a machine where its files are not
        with pytest.raises(BackendError, match=r"should be in .* on gpu1"):
            cleaned(
                capsys,
                tmp_path,
                CleanSelection(database=where, everything=True, files=str(tmp_path / "elsewhere")),
            )
    said = cleaned(capsys, tmp_path, CleanSelection(database=where, everything=True))
    assert {each["sweep"]: each["keep"] for each in said} == {
        over: "",
        open_one: "it can be resumed (name it to remove it anyway)",
    }
    (said_of_it,) = cleaned(capsys, tmp_path, CleanSelection([open_one], database=where))
    assert said_of_it["removed"]
    assert not has_project(stage)
    assert kept_for_nothing(stage) == 0
