"""A sweep that goes takes its runs, lines and files with it, and nothing of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from parallel_hpo.server import removal
from parallel_hpo.server.artifacts import collections, versions
from parallel_hpo.server.artifacts.collections import CollectionPath
from parallel_hpo.server.artifacts.versions import ArtifactFields
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.store import artifact_collections, artifact_members, artifacts, projects, sweeps
from parallel_hpo.server.store.artifacts import COMMITTED, Artifact
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.holdings import StorageUsage
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from tests.server.acting import Services, grid
from tests.server.files.test_uploads import send

SIZE = 1_000


def performed(services: Services, lines: int = 3) -> tuple[str, str]:
    """Create a sweep and perform a run of it that logs so many lines; return both names."""
    sweep = services.sweep(grid(3))
    name = services.begun(sweep)
    text = tuple(f'{{"_step": {step}, "loss": 1}}' for step in range(lines))
    services.stream(name, Chunk((Batch(Stream.HISTORY, 0, text),), exitcode=0))
    return sweep, name


def logged(services: Services, run: str, collection: str, *aliases: str) -> Artifact:
    """Have a run log an artifact, as it is after its commit."""
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


def test_a_sweep_goes_with_all_that_its_runs_told_and_another_one_stays(services: Services) -> None:
    sweep, _ = performed(services)
    other, kept = performed(services)
    before = removal.measure_sweep(services.world, other)
    removal.remove_sweep(services.world, sweep)
    assert removal.measure_sweep(services.world, sweep) == StorageUsage()
    assert removal.measure_sweep(services.world, other) == before
    with services.world.database.read() as transaction:
        assert sweeps.find(transaction, sweep) is None
    assert services.run(kept).history_lines == 3
    removal.remove_sweep(services.world, sweep)  # as after one that was cut short


def test_what_a_sweep_takes_up_grows_with_its_lines(services: Services) -> None:
    few, many = (removal.measure_sweep(services.world, performed(services, lines)[0]) for lines in (3, 100))
    assert (few.rows, many.rows) == (4, 101)
    assert many.size - few.size >= 97 * len('{"_step": 3, "loss": 1}')


def test_files_of_its_runs_go_from_the_disk(services: Services) -> None:
    sweep, name = performed(services)
    place = FileRef(str(services.run(name).id), "output.log")
    send(services, place, b"bytes")
    assert removal.measure_sweep(services.world, sweep).rows == 5
    removal.remove_sweep(services.world, sweep)
    assert not place.path_in(services.world.files).exists()


def test_an_artifact_goes_unless_another_run_wants_it_or_it_has_a_name_of_its_own(services: Services) -> None:
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


def test_a_portfolio_stays_with_what_is_linked_to_it(services: Services) -> None:
    sweep, name = performed(services)
    linked = logged(services, name, "model")
    collections.link(services.world, linked.id, CollectionPath("local", "p", "portfolio"), ["best"])
    removal.remove_sweep(services.world, sweep)
    with services.world.database.read() as transaction:
        project = projects.find(transaction, "local", "p")
        assert project is not None
        portfolio = artifact_collections.find(transaction, project.id, "portfolio")
        assert portfolio is not None
        (member,) = artifact_members.of_collection(transaction, portfolio)
    assert member.artifact.id == linked.id


def has_project(services: Services, name: str = "p") -> bool:
    with services.world.database.read() as transaction:
        return projects.find(transaction, "local", name) is not None


def test_what_a_sweep_takes_up_has_its_artifacts(services: Services) -> None:
    sweep, name = performed(services)
    before = removal.measure_sweep(services.world, sweep)
    logged(services, name, "model")
    assert removal.measure_sweep(services.world, sweep) == before + StorageUsage(1, SIZE)


def test_a_project_goes_with_the_last_that_was_in_it(services: Services) -> None:
    sweep, name = performed(services)
    other, _ = performed(services)
    logged(services, name, "model")
    begun = ArtifactFields("local", "p", "never finished", "model", digest="d", run=name)
    versions.create(services.world, begun)
    removal.remove_sweep(services.world, other)
    assert has_project(services)
    removal.remove_sweep(services.world, sweep)
    assert not has_project(services)


def test_a_project_is_removed_with_runs_of_no_sweep_and_what_has_a_name(services: Services) -> None:
    _, name = performed(services)
    run_service.upsert(services.world, RunUpsert(name="alone", project="p"))
    run_service.upsert(services.world, RunUpsert(name="alone", project="other"))
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
    """A database whose process dies at one of its writes."""

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


def test_a_removal_that_was_cut_short_anywhere_is_done_by_the_next_one(services: Services) -> None:
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
