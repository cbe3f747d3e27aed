"""`parallel-hpo clean --database`: sweeps of a server without a folder on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.cli.clean import CleanSelection
from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.files.folder import folder_request, open_folder
from tests.cli.test_clean import cleaned
from tests.server.removal.test_sweep_removal import has_project, performed
from tests.server.server_logic import START, Services


def is_file(services: Services) -> bool:
    return "://" not in services.where


def unreclaimed_space(services: Services) -> int:
    """Free pages of SQLite's file; of PostgreSQL's, in which there are no lines any more, the bytes."""
    with services.world.database.read() as transaction:
        ask = "PRAGMA freelist_count" if is_file(services) else "SELECT pg_relation_size('lines')"
        return int(transaction.exec_driver_sql(ask).scalar_one())


def test_finished_sweeps_of_another_servers_database_are_removed(
    tmp_path: Path, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    over, _ = performed(services)
    services.set_state(over, "FINISHED")
    services.clock.now = START + 1
    open_one, _ = performed(services, lines=2_000)
    where = services.where
    files = str(services.world.files)
    open_folder(services.world.database, folder_request(where, files, adopt=True), host="gpu1")
    if not is_file(services):  # on a machine without its files
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
    assert not has_project(services)
    assert unreclaimed_space(services) == 0
