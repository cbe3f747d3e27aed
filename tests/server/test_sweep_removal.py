"""A sweep that goes takes its runs, lines and files with it, and nothing of others."""

from __future__ import annotations

from parallel_hpo.server import artifact_service, portfolio_service, sweep_removal
from parallel_hpo.server.addresses import Place
from parallel_hpo.server.artifact_service import ArtifactWishes
from parallel_hpo.server.file_stream import Batch, Chunk
from parallel_hpo.server.portfolio_service import PortfolioPath
from parallel_hpo.server.store import artifact_aliases, artifacts, sweeps
from parallel_hpo.server.store.artifact_records import COMMITTED, Artifact
from parallel_hpo.server.store.holdings import Holding
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from tests.server.acting import Stage, grid
from tests.server.test_uploads import send


def performed(stage: Stage, lines: int = 3) -> tuple[str, str]:
    """Create a sweep and perform a run of it that logs so many lines; return both names."""
    sweep = stage.sweep(grid(3))
    name = stage.issued(stage.agent(sweep))
    stage.start(sweep, name)
    text = tuple(f'{{"_step": {step}, "loss": 1}}' for step in range(lines))
    stage.stream(name, Chunk((Batch(Stream.HISTORY, 0, text),), exitcode=0))
    return sweep, name


def logged(stage: Stage, run: str, collection: str, *aliases: str) -> Artifact:
    """Have a run log an artifact, as it is after its commit."""
    wishes = ArtifactWishes("local", "p", collection, "model", digest=run + collection, run=run)
    made = artifact_service.create(stage.world, wishes)
    with stage.world.database.write() as transaction:
        artifacts.change(transaction, made.id, {"state": COMMITTED, "version": 0})
        artifact_aliases.put(transaction, made.collection.id, made.id, ["latest", *aliases])
    return made


def is_there(stage: Stage, artifact: Artifact) -> bool:
    with stage.world.database.read() as transaction:
        found = artifacts.find(transaction, artifact.id)
    return found is not None and found.state == COMMITTED


def test_a_sweep_goes_with_all_that_its_runs_told_and_another_one_stays(stage: Stage) -> None:
    sweep, _ = performed(stage)
    other, kept = performed(stage)
    before = sweep_removal.measure(stage.world, other)
    sweep_removal.remove(stage.world, sweep)
    assert sweep_removal.measure(stage.world, sweep) == Holding()
    assert sweep_removal.measure(stage.world, other) == before
    with stage.world.database.read() as transaction:
        assert sweeps.find(transaction, sweep) is None
    assert stage.run(kept).history_lines == 3
    sweep_removal.remove(stage.world, sweep)  # as after one that was cut short


def test_what_a_sweep_takes_up_grows_with_its_lines(stage: Stage) -> None:
    few, many = (sweep_removal.measure(stage.world, performed(stage, lines)[0]) for lines in (3, 100))
    assert (few.rows, many.rows) == (4, 101)
    assert many.size - few.size >= 97 * len('{"_step": 3, "loss": 1}')


def test_files_of_its_runs_go_from_the_disk(stage: Stage) -> None:
    sweep, name = performed(stage)
    place = Place(str(stage.run(name).id), "output.log")
    send(stage, place, b"bytes")
    assert sweep_removal.measure(stage.world, sweep).rows == 5
    sweep_removal.remove(stage.world, sweep)
    assert not place.within(stage.world.files).exists()


def test_an_artifact_goes_unless_another_run_wants_it_or_it_has_a_name_of_its_own(stage: Stage) -> None:
    sweep, name = performed(stage)
    _, user = performed(stage)
    names = ("unused", "used", "again", "named", "linked")
    made = {each: logged(stage, name, each, *(["best"] if each == "named" else [])) for each in names}
    artifact_service.use(stage.world, made["used"].id, RunPath("local", "p", user))
    again = ArtifactWishes("local", "p", "again", "model", digest=f"{name}again", run=user)
    assert artifact_service.create(stage.world, again).id == made["again"].id
    portfolio_service.link(stage.world, made["linked"].id, PortfolioPath("local", "p", "portfolio"), [])
    sweep_removal.remove(stage.world, sweep)
    assert {each for each in names if is_there(stage, made[each])} == {"used", "again", "named", "linked"}
