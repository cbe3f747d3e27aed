"""What a run leaves in its worker: nothing of it outlives the run, and the next one works as the first."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final

from tests.conftest import QUIET
from tests.processes.conftest import RealSweep, outcomes
from tests.processes.databases import ServerRun

MAINS: Final = Path(__file__).with_name("keeping.py")
ROOT: Final = Path(__file__).parents[2]
SHARED_MEMORY: Final = Path("/dev/shm")
OF_WANDB: Final = ("wandb-media", "wandb-artifacts")
"""Folders of wandb's modules, which killed children of a pool leave without us too."""


def start(sweep: RealSweep, *cases: str, rounds: int = 1, **keys: Any) -> RealSweep:
    """Perform runs of these cases, one after the other in one worker."""
    sweep.env |= QUIET | {"PYTHONPATH": str(ROOT)}
    grid = {
        "method": "grid",
        "metric": {"name": "loss"},
        "parameters": {"round": {"values": list(range(rounds))}, "case": {"values": list(cases)}},
    }
    return sweep.start("keep", mains=MAINS, sweep=grid, workers=1, arguments=("-v",), **keys)


def left(sweep: RealSweep, temporary: Path) -> list[str]:
    """Return what the runs have left in shared memory and in the temporary folder."""
    made = [Path(str(entry.facts["name"])).name for entry in sweep.entries("made") if entry.facts["name"]]
    pids = [f"{kind}{entry.pid}" for entry in sweep.entries() for kind in ("loky-", "folder_")]
    named = [path.name for path in SHARED_MEMORY.glob("*") if any(pid in path.name for pid in pids)]
    shared = [
        name for name in made if (SHARED_MEMORY / name).exists() or (SHARED_MEMORY / f"sem.{name}").exists()
    ]
    others = [path.name for path in temporary.iterdir() if not path.name.endswith(OF_WANDB)]
    return [*named, *shared, *others]


def test_what_libraries_keep_does_not_reach_the_next_run(sweep: RealSweep, temporary: Path) -> None:
    cases = ("pool_fork", "pool_forkserver", "leave_pool", "leave_executor", "joblib", "leak_memory")
    ended = start(sweep, *cases, rounds=2).finish()
    assert outcomes(ended.summary) == ["finished"] * 12, ended.stderr
    entries = sweep.entries()
    assert [entry.facts["children"] for entry in entries] == [[]] * 12
    assert len({entry.pid for entry in entries}) == 1
    assert "replaced" not in ended.stderr
    assert left(sweep, temporary) == []


def test_a_worker_that_holds_on_to_what_its_run_left_is_replaced(sweep: RealSweep, temporary: Path) -> None:
    ended = start(sweep, "hold_pool", "hold_memory", "leave_server").finish()
    assert outcomes(ended.summary) == ["finished"] * 3, ended.stderr
    assert len({entry.pid for entry in sweep.entries()}) == 3
    assert ended.stderr.count("replaced: its run left") >= 2  # the last one leaves anyway
    assert left(sweep, temporary) == []


def test_a_killed_worker_leaves_nothing_in_shared_memory(sweep: RealSweep, temporary: Path) -> None:
    ended = start(sweep, "die_once").finish()
    assert (ended.summary["finished"], ended.summary["retried"]) == (1, 1), ended.stderr
    assert [name for name in left(sweep, temporary) if "wandb" not in name] == []


def test_at_its_end_a_worker_calls_atexit_and_flushes_files(
    sweep: RealSweep, tmp_path: Path, temporary: Path
) -> None:
    ended = start(sweep, "register", rounds=2).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    for run in ended.summary["runs"]:
        assert (tmp_path / f"{run['run_id']}.called").exists()
        assert (tmp_path / f"{run['run_id']}.txt").read_text() == run["run_id"]
        with gzip.open(tmp_path / f"{run['run_id']}.gz", "rt") as packed:
            assert packed.read() == run["run_id"]
    assert not any(Path(str(entry.facts["name"])).exists() for entry in sweep.entries("made"))
    assert left(sweep, temporary) == []


def test_a_run_that_a_child_of_main_opened_is_the_childs(sweep: RealSweep) -> None:
    ended = start(sweep, "child_trains", "child_forgets", "child_fails").finish()
    server = sweep.runs_on_the_server()
    seen = {
        run["parameters"]["case"]: (run["outcome"], run["reason"], server[run["run_id"]])
        for run in ended.summary["runs"]
    }
    assert seen == {
        "child_trains": ("finished", "", ServerRun("finished", 0)),
        "child_forgets": ("finished", "", ServerRun("finished", 0)),
        "child_fails": ("failed", "RuntimeError: a child has failed", ServerRun("failed", 1)),
    }
    assert ended.summary["best"]["value"] == 2.0
    assert len(sweep.entries()) == 3
