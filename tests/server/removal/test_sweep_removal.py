"""Removing a sweep removes its runs, lines and files, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete, insert

from parallel_hpo.server import removal
from parallel_hpo.server.artifacts import collections, versions
from parallel_hpo.server.artifacts.collections import CollectionPath
from parallel_hpo.server.artifacts.versions import ArtifactFields
from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.store import artifact_collections, artifact_members, artifacts, projects, sweeps
from parallel_hpo.server.store.artifacts import COMMITTED, Artifact
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.holdings import StorageUsage
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.store.tables import collections as collections_table
from parallel_hpo.server.store.tables import insert_one, metadata
from parallel_hpo.server.store.tables import projects as projects_table
from tests.server.application import URL, Web
from tests.server.files.test_files import send
from tests.server.server_logic import Services, grid

SIZE = 1_000


def performed(services: Services, lines: int = 3) -> tuple[str, str]:
    """Create a sweep and finish a run of it with this many history lines; return both names."""
    sweep = services.sweep(grid(3))
    name = services.begun(sweep)
    services.log(name, *[1] * lines, exitcode=0)
    return sweep, name


def logged(services: Services, run: str, collection: str, *aliases: str) -> Artifact:
    """Create a committed artifact of a run."""
    wishes = ArtifactFields("local", "p", collection, "model", digest=run + collection, run=run)
    made = versions.create(services.world, wishes)
    with services.world.database.write() as transaction:
        artifacts.change(transaction, made.id, {"state": COMMITTED, "version": 0, "size": SIZE})
        artifact_collections.put_aliases(transaction, made.collection.id, made.id, ["latest", *aliases])
    return made


def is_there(services: Services, artifact: Artifact) -> bool:
    with services.world.database.read() as transaction:
        found = artifacts.find(transaction, artifact.id)
    return found is not None and found.state == COMMITTED


def test_removing_a_sweep_removes_all_its_data_and_no_other_sweep(services: Services) -> None:
    sweep, _ = performed(services)
    other, kept = performed(services)
    before = removal.measure_sweep(services.world, other)
    removal.remove_sweep(services.world, sweep)
    assert removal.measure_sweep(services.world, sweep) == StorageUsage()
    assert removal.measure_sweep(services.world, other) == before
    with services.world.database.read() as transaction:
        assert sweeps.find(transaction, sweep) is None
    assert services.run(kept).history_lines == 3
    removal.remove_sweep(services.world, sweep)  # as after an interrupted removal


def test_a_sweeps_usage_counts_its_lines_files_and_artifacts(services: Services) -> None:
    (few, _), (many, name) = performed(services, 3), performed(services, 100)
    less, more = (removal.measure_sweep(services.world, sweep) for sweep in (few, many))
    assert (less.rows, more.rows) == (4, 101)
    assert more.size - less.size >= 97 * len('{"_step": 3, "loss": 1}')
    logged(services, name, "model")
    assert removal.measure_sweep(services.world, many) == more + StorageUsage(1, SIZE)
    place = FileRef(str(services.run(name).id), "output.log")
    send(services, place, b"bytes")
    assert removal.measure_sweep(services.world, many).rows == 103
    removal.remove_sweep(services.world, many)
    assert not place.path_in(services.world.files).exists()


def test_an_artifact_is_removed_unless_another_run_uses_it_or_it_is_named(services: Services) -> None:
    sweep, name = performed(services)
    _, user = performed(services)
    names = ("unused", "used", "again", "named", "linked")
    made = {each: logged(services, name, each, *(["best"] if each == "named" else [])) for each in names}
    versions.use(services.world, made["used"].id, RunPath("local", "p", user))
    again = ArtifactFields("local", "p", "again", "model", digest=f"{name}again", run=user)
    assert versions.create(services.world, again).id == made["again"].id
    collections.link(services.world, made["linked"].id, CollectionPath("local", "p", "portfolio"), [])
    removal.remove_sweep(services.world, sweep)
    assert {each for each in names if is_there(services, made[each])} == {"used", "again", "named", "linked"}
    with services.world.database.read() as transaction:
        portfolio = artifact_collections.find(transaction, made["linked"].collection.project_id, "portfolio")
        assert portfolio is not None
        (member,) = artifact_members.of_collection(transaction, portfolio)
    assert member.artifact.id == made["linked"].id


def has_project(services: Services, name: str = "p") -> bool:
    with services.world.database.read() as transaction:
        return projects.find(transaction, "local", name) is not None


def test_a_project_is_removed_with_its_last_sweep(services: Services) -> None:
    sweep, name = performed(services)
    other, _ = performed(services)
    logged(services, name, "model")
    begun = ArtifactFields("local", "p", "never finished", "model", digest="d", run=name)
    versions.create(services.world, begun)
    removal.remove_sweep(services.world, other)
    assert has_project(services)
    removal.remove_sweep(services.world, sweep)
    assert not has_project(services)


def test_removing_a_project_removes_its_other_runs_and_named_artifacts(services: Services) -> None:
    _, name = performed(services)
    for project in ("p", "other"):
        services.upsert("alone", project=project)
    place = FileRef(str(services.run("alone").id), "a.txt")
    send(services, place, b"bytes")
    logged(services, name, "model", "best")
    rest = removal.besides_sweeps(services.world, "local", "p")
    assert rest is not None
    assert (rest.runs, rest.collections, rest.is_on, rest.held.rows) == (1, 1, True, 2)
    removal.remove_project(services.world, "local", "p")
    assert (has_project(services), has_project(services, "other")) == (False, True)
    assert removal.list_sweeps(services.world) == []
    assert not place.path_in(services.world.files).exists()
    removal.remove_project(services.world, "local", "p")


class Dying:
    """A database whose process dies at a given write."""

    def __init__(self, database: Database, writes: int) -> None:
        self._database = database
        self._left = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Write, or die."""
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        with self._database.write() as transaction:
            yield transaction


def test_a_removal_interrupted_at_any_write_is_finished_by_the_next_one(services: Services) -> None:
    for writes in range(100):
        sweep, name = performed(services)
        model, used = logged(services, name, "model"), logged(services, name, "used")
        versions.use(services.world, used.id, RunPath("local", "p", name))
        dying: Any = Dying(services.world.database, writes)
        try:
            removal.remove_sweep(replace(services.world, database=dying), sweep)
            break
        except KeyboardInterrupt:
            removal.remove_sweep(services.world, sweep)
            assert not is_there(services, model)
            assert not is_there(services, used)
            assert not has_project(services)
    assert 3 < writes < 100


DELETE = "mutation D($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"


def test_deleting_a_run_twice_deletes_no_other_run(services: Services) -> None:
    id_of_old = services.upsert("old").id
    with Web(services) as web:
        web.ask(DELETE, id=f"run:{id_of_old}")
        services.upsert("new")
        web.ask(DELETE, id=f"run:{id_of_old}")
    assert services.run("new").id > id_of_old


def test_an_upload_url_of_a_deleted_run_writes_to_no_other_run(services: Services) -> None:
    services.upsert("old")
    (file,) = run_files.create(services.world, URL, RunPath("local", "p", "old"), ["config.yaml"]).files
    services.delete("old")
    id_of_new = services.upsert("new").id
    with Web(services, key=None) as web:
        web.put(file.upload_url or "", content=b"of the old run")
    assert not (services.world.files / str(id_of_new) / "config.yaml").exists()


COUNTED = [
    table for table in metadata.sorted_tables if "id" in table.c and table.c.id.type.python_type is int
]


def row(table: Any, number: int) -> dict[str, Any]:
    """Return a row with a value in each required column."""
    needed = [column for column in table.c if not column.nullable and not column.primary_key]
    filled = {column.name: column.type.python_type(number) for column in needed if not column.foreign_keys}
    return filled | {column.name: 1 for column in needed if column.foreign_keys}


@pytest.mark.parametrize("table", COUNTED, ids=lambda table: table.name)
def test_a_deleted_last_id_of_a_table_is_not_reused(services: Services, table: Any) -> None:
    with services.world.database.write() as transaction:
        for parent in metadata.sorted_tables[: metadata.sorted_tables.index(table)]:
            if parent in (projects_table, collections_table):
                transaction.execute(insert(parent).values(id=1, **row(parent, 0)))
        last = insert_one(transaction, table, row(table, 1))
        transaction.execute(delete(table).where(table.c.id == last))
        assert insert_one(transaction, table, row(table, 2)) > last
