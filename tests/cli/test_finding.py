"""Where commands find a sweep: its folder, the database, or a server."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from parallel_hpo.analysis.result import result_of
from parallel_hpo.cli.finding import find_anywhere, known_by_pool
from parallel_hpo.cli.rerun import rerun
from parallel_hpo.cli.show import best, status
from parallel_hpo.core.errors import TargetError, UsageError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import AT_ONCE, NewPool, PoolEvent, PoolNews
from parallel_hpo.core.types import Outcome
from parallel_hpo.pickling.main import FILE
from parallel_hpo.server.services import pool
from parallel_hpo.session.membership import versions_here
from tests.cli.folders import leave_sweep
from tests.cluster.pools import joined, left, over, started
from tests.server.pool_requests import VERSIONS, end, machine, new_pool, start, told
from tests.server.server_logic import Clock, Services, grid

NO_SERVER = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
CONFIGURATION = {"name": "digits", "metric": {"name": "loss", "goal": "maximize"}}


@dataclass
class FakePool:
    """A pool with these events."""

    pool: NewPool
    happened: list[PoolEvent]
    ends: SweepEnd | None = None
    living: int = 0

    def facts(self) -> NewPool:
        return self.pool

    def events(self, event: int) -> PoolNews:
        later = [each for each in self.happened if each.number > event]
        return PoolNews(tuple(later[:AT_ONCE]), (), 0, self.ends, self.living, 0)


@pytest.fixture
def performed(tmp_path: Path) -> tuple[Path, str]:
    """A directory whose server has a pool with one performed run and a living machine."""
    with closing(Services(tmp_path)) as services:
        sweep = services.sweep(grid(6))
        wanted = new_pool(sweep, backend="local", configuration=CONFIGURATION)
        pool.open_pool(services.world, sweep, wanted)
        epoch = pool.join(services.world, sweep, machine("gpu1")).epoch
        pool.exchange(services.world, sweep, told(epoch, 1, 1))
        pool.exchange(services.world, sweep, told(epoch, 2, 1, starts=(start("r"),)))
        pool.exchange(services.world, sweep, told(epoch, 3, ends=(end("r", value=0.5, duration_s=2.0),)))
        pool.leave(services.world, sweep, epoch, "done")
    return tmp_path, sweep


def test_a_pooled_sweep_is_found_in_the_servers_database(performed: tuple[Path, str]) -> None:
    directory, sweep = performed
    known = find_anywhere(directory, f"local/p/{sweep}", NO_SERVER)
    (run,) = known.runs
    assert (run.run_id, run.outcome, run.value, run.machine) == ("r", Outcome.FINISHED, 0.5, "gpu1")
    assert (known.facts["name"], known.facts["metric"], known.facts["goal"]) == ("digits", "loss", "maximize")
    assert (known.count, known.folder, known.best) == (4, directory / sweep, run)
    assert [(attempt.run_id, attempt.duration_s) for attempt in known.attempts] == [("r", 2.0)]
    assert not (directory / sweep).exists()


def test_commands_find_a_pooled_sweep(
    performed: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory, sweep = performed
    status(sweep, directory, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["started"], told["finished"], told["machines"], told["folder"]) == (1, 1, "gpu1", None)
    best(sweep, directory)
    assert capsys.readouterr().out == 'r  loss=0.5  {"x": 1}\n'
    with pytest.raises(UsageError, match="its pool has no main"):
        rerun(sweep, "best", directory=directory)


def test_an_unreadable_main_is_an_error_that_names_the_versions(tmp_path: Path) -> None:
    unreadable = b"cparallel_hpo.gone\nMain\n."
    with closing(Services(tmp_path)) as services:
        pooled = services.sweep(grid(6))
        wanted = new_pool(pooled, backend="local", main=b64encode(unreadable).decode())
        pool.open_pool(services.world, pooled, wanted)
        epoch = pool.join(services.world, pooled, machine("gpu1")).epoch
        pool.exchange(services.world, pooled, told(epoch, 1, 1))
        pool.exchange(services.world, pooled, told(epoch, 2, starts=(start("r"),)))
    kept = {"python": VERSIONS.python, "wandb": VERSIONS.wandb, "parallel_hpo": VERSIONS.parallel_hpo}
    facts = {"main": None, "main_not_kept": ""}
    leave_sweep(tmp_path / "kept", [0.1], facts=facts | {"versions": kept})
    leave_sweep(tmp_path / "old", [0.1], facts=facts)
    here = versions_here()
    unlike = f"Python 3.12 ({here.python} here), wandb 0.30 ({here.wandb} here), parallel_hpo 1.0"
    for sweep, run, words in (
        (pooled, "r", unlike),
        ("kept", "kept-0", unlike),
        ("old", "old-0", "a version of parallel_hpo that kept none"),
    ):
        if sweep != pooled:
            (tmp_path / sweep / FILE).write_bytes(unreadable)
        with pytest.raises(TargetError) as failed:
            rerun(sweep, run, directory=tmp_path)
        text = f"{sweep} was made with {words} ({here.parallel_hpo} here): the main of {sweep} can't be read"
        assert str(failed.value).startswith(text)
        assert str(failed.value).endswith("No module named 'parallel_hpo.gone'")


def test_status_lists_pooled_sweeps(performed: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    directory, sweep = performed
    leave_sweep(directory / "here", [0.1])
    with closing(Services(directory, clock=Clock(time.time()))) as services:
        for name in ("here", "cloud"):
            pool.open_pool(services.world, name, new_pool(name, configuration=CONFIGURATION))
        pool.join(services.world, "cloud", machine("gpu2"))
    status(None, directory, as_json=True)
    rows = {row["sweep"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["here", sweep, "cloud"]
    status(sweep, directory, as_json=True)
    alone = json.loads(capsys.readouterr().out)
    by_counts = {"name": None, "metric": "loss", "best": None, "date": rows[sweep]["date"]}
    assert rows[sweep] == alone | by_counts
    shown = ("name", "project", "running", "machines", "started")
    assert [rows["cloud"][key] for key in shown] == ["digits", "p", True, "gpu2", 0]
    assert rows["here"]["finished"] == 1


def test_a_sweep_with_a_ledger_is_read_from_its_folder(performed: tuple[Path, str]) -> None:
    directory, sweep = performed
    leave_sweep(directory / sweep, [0.1, 0.2])
    known = find_anywhere(directory, sweep, NO_SERVER)
    assert (len(known.runs), known.of_pool) == (2, None)


def test_all_events_of_a_long_sweep_are_read(tmp_path: Path) -> None:
    runs = [f"r{number}" for number in range(AT_ONCE)]
    happened = [joined(1, 1, "gpu1")]
    for run in runs:
        happened += [started(len(happened) + 1, 1, run)]
        happened += [over(len(happened) + 1, 1, run, Outcome.FINISHED)]
    happened += [left(len(happened) + 1, 1, "gpu1", "done")]
    ends = SweepEnd("all runs performed", 0)
    known = known_by_pool(FakePool(new_pool("s"), happened, ends), tmp_path / "s")
    assert known is not None
    assert [run.run_id for run in known.runs] == runs
    assert (result_of(known).stop_reason, result_of(known).exit_code) == ("all runs performed", 0)


def test_a_sweep_runs_while_a_machine_holds_a_lease(tmp_path: Path) -> None:
    source = FakePool(new_pool("s"), [joined(1, 1, "gpu1"), started(2, 1, "r")], living=1)
    known = known_by_pool(source, tmp_path / "s")
    assert known is not None
    assert known.supervised
    source.living = 0
    known = known_by_pool(source, tmp_path / "s")
    assert known is not None
    assert result_of(known).stop_reason == "no machine performs it now"


def test_an_unknown_sweep_is_an_error_that_explains_how_to_set_a_server(tmp_path: Path) -> None:
    leave_sweep(tmp_path / "here", [0.1])
    with pytest.raises(UsageError, match=r"there: here .*; set WANDB_BASE_URL and WANDB_API_KEY") as failed:
        find_anywhere(tmp_path, "elsewhere", NO_SERVER)
    assert failed.value.exit_code == 2
    with pytest.raises(UsageError, match=r"; http://127.0.0.1:9 doesn't have it, or"):
        find_anywhere(tmp_path, "elsewhere", NO_SERVER | {"WANDB_API_KEY": "k" * 40})
