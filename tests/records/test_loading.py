from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo import load
from parallel_hpo.analysis.result import summarise, write_summary
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.folders import folders_of_sweeps, newest_sweep
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.signals import CommandPipe
from parallel_hpo.upload.plan import upload_folder
from tests.ledgers import record_end, record_spawn, record_start
from tests.results import CLOSING

FACTS = {"url": "http://here/s1", "backend": "local", "count": 3, "metric": "loss", "goal": "maximize"}
ENDED: dict[str, Any] = {"stop_reason": "count reached", "exit_code": 0}


def keep(ledger: Path, *run_ids: str, under_way: tuple[str, ...] = (), **facts: Any) -> None:
    """Write a ledger with finished runs, whose values are 0.0, 1.0, …, and active runs."""
    with Ledger(ledger) as kept:
        kept.record_facts(FACTS | facts)
        record_spawn(kept, Slot(0), None, again=False)
        for number, run_id in enumerate((*run_ids, *under_way)):
            record_start(kept, run_id, parameters={"x": number})
            if run_id in run_ids:
                end = AttemptEnd(outcome=Outcome.FINISHED, value=float(number), duration_s=2.0)
                record_end(kept, RunId(run_id), 1, end)


def test_an_ended_sweep_is_loaded_as_optimize_returned_it(tmp_path: Path) -> None:
    ledger = tmp_path / "s1" / "ledger.db"
    keep(ledger, "a", "b", "c", **ENDED)
    facts: dict[str, Any] = {"sweep_url": FACTS["url"], "count": 3, "metric": "loss", "goal": "maximize"}
    closing = replace(CLOSING, **facts, duration_s=12.5, phantoms=("p",), folder=str(tmp_path / "s1"))
    with Ledger(ledger) as kept:
        returned = summarise(kept.runs(), kept.workers(), closing)
    write_summary(returned, tmp_path / "s1" / "summary.json")
    assert load("s1", directory=tmp_path) == returned
    assert load("local/project/s1", directory=str(tmp_path)) == returned


def test_the_directory_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "s1" / "ledger.db", "a")
    monkeypatch.setenv("PARALLEL_HPO_DIRECTORY", str(tmp_path))
    assert load("s1").sweep_id == "s1"


def test_a_running_sweep_has_its_runs_so_far(tmp_path: Path) -> None:
    keep(tmp_path / "s1" / "ledger.db", "a", "b", under_way=("c",), **ENDED)
    with CommandPipe(tmp_path / "s1"):
        result = load("s1", directory=tmp_path)
    assert [run.outcome for run in result.runs] == ["finished", "finished", "open"]
    assert (result.attempted, result.finished, result.lost) == (2, 2, 0)
    assert (result.stop_reason, result.exit_code) == ("it is still running", 75)
    assert result.best is not None
    assert result.best.run_id == "b"


def test_a_sweep_whose_supervisor_died_can_be_resumed(tmp_path: Path) -> None:
    keep(tmp_path / "s1" / "ledger.db", "a", under_way=("b",), **ENDED)
    result = load("s1", directory=tmp_path)
    assert (result.exit_code, result.stop_reason.partition(",")[0]) == (75, "its supervisor died")
    assert result.duration_s == pytest.approx(2.0, abs=1.0)


def test_the_shares_of_a_sweep_are_loaded_as_one_sweep(tmp_path: Path) -> None:
    keep(tmp_path / "s1" / "share-1-of-2" / "ledger.db", "a", "b", **ENDED)
    keep(tmp_path / "s1" / "share-2-of-2" / "ledger.db", "c", **ENDED)
    result = load("s1", directory=tmp_path)
    assert ([run.run_id for run in result.runs], result.count) == (["a", "b", "c"], 6)
    assert len(result.workers) == 2


def test_runs_of_shares_are_in_the_order_of_their_starts(tmp_path: Path) -> None:
    for share, starts in (("1-of-2", (10.0, 30.0)), ("2-of-2", (20.0, 40.0))):
        with Ledger(tmp_path / "s1" / f"share-{share}" / "ledger.db") as kept:
            kept.record_facts(FACTS)
            for at in starts:
                run = RunId(f"at-{at:g}")
                record_start(kept, run, at=at)
    runs = load("s1", directory=tmp_path).runs
    assert [run.run_id for run in runs] == ["at-10", "at-20", "at-30", "at-40"]


def test_a_sweep_in_shares_ends_like_its_unfinished_share(tmp_path: Path) -> None:
    first, second = (tmp_path / "s1" / f"share-{number}-of-2" / "ledger.db" for number in (1, 2))
    keep(first, "a", "b", **ENDED)
    keep(second, "c")
    assert load("s1", directory=tmp_path).exit_code == 75
    keep(second, stop_reason="SIGINT", exit_code=130)
    result = load("s1", directory=tmp_path)
    assert (result.stop_reason, result.exit_code, result.finished) == ("SIGINT", 130, 3)
    keep(second, **ENDED)
    assert load("s1", directory=tmp_path).exit_code == 0


def test_an_upload_does_not_change_which_sweep_is_the_newest(tmp_path: Path) -> None:
    for name, at in (("s2", 1000.0), ("s1", 2000.0)):
        keep(tmp_path / name / "ledger.db", "a")
        os.utime(tmp_path / name / "ledger.db", (at, at))
        os.utime(tmp_path / name, (at, at))
    with upload_folder(tmp_path, "s2"):
        pass
    assert newest_sweep(tmp_path).sweep_id == "s1"
    assert [folder.name for folder in folders_of_sweeps(tmp_path)] == ["s2", "s1"]
