"""A sweep as an Optuna study, in memory and in a storage that Optuna reads back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.analysis.study import to_study, write_storage
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import Outcome
from parallel_hpo.records.ledger import Ledger
from tests.analysis.sweeps import odd_sweep, result_of, row
from tests.storages import storage_in


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_best_trial_is_the_best_run(goal: str) -> None:
    result = result_of([row(number, {"x": number}, float(number)) for number in range(3)], goal=goal)
    assert result.best is not None
    best = result.to_study().best_trial
    assert (best.user_attrs["run_id"], best.value) == (result.best.run_id, result.best.value)


def test_each_run_is_a_trial_whose_state_says_how_it_ended() -> None:
    ends = {
        (Outcome.FINISHED, 1.0): TrialState.COMPLETE,
        (Outcome.FINISHED, None): TrialState.FAIL,
        (Outcome.FAILED, 1.0): TrialState.FAIL,
        (Outcome.CRASHED, None): TrialState.FAIL,
        (Outcome.STOPPED, 1.0): TrialState.PRUNED,
        (None, None): TrialState.RUNNING,
    }
    rows = [row(number, {"x": 1}, value, end) for number, (end, value) in enumerate(ends)]
    trials = result_of(rows).to_study().trials
    assert [trial.state for trial in trials] == list(ends.values())
    assert trials[0].duration == timedelta(seconds=2.5)
    assert trials[0].datetime_start and trials[1].datetime_start
    assert trials[1].datetime_start - trials[0].datetime_start == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ([1, 5, 3], IntDistribution(1, 5)),
        ([0.5, 0.25], FloatDistribution(0.25, 0.5)),
        ([1, 0.5], FloatDistribution(0.5, 1.0)),
        ([1e-5, 1e-3, 1e-1], FloatDistribution(1e-5, 1e-1, log=True)),
        ([1.0, 2.0, 4.0], FloatDistribution(1.0, 4.0)),
        ([1, 16, 256], IntDistribution(1, 256, log=True)),
        ([0.001, 0.4, 0.5, 0.6, 1.0], FloatDistribution(0.001, 1.0)),
        ([-1.0, 1e-3, 10.0], FloatDistribution(-1.0, 10.0)),
        (["b", "a", "b"], CategoricalDistribution(["b", "a"])),
        ([True, False], CategoricalDistribution([True, False])),
        ([True, 1], CategoricalDistribution(["true", "1"])),
        ([[1, 2], [3], [1, 2]], CategoricalDistribution(["[1, 2]", "[3]"])),
        ([None, "a"], CategoricalDistribution(["null", "a"])),
        ([float("nan"), 1.0], CategoricalDistribution(["NaN", "1.0"])),
        ([float("inf"), 1.0], CategoricalDistribution(["Infinity", "1.0"])),
        ([10**400, 1.0], CategoricalDistribution([str(10**400), "1.0"])),
        ([{}, {}], CategoricalDistribution(["{}"])),
    ],
)
def test_a_distribution_contains_the_observed_values(values: list[Any], distribution: Any) -> None:
    study = result_of([row(number, {"x": value}) for number, value in enumerate(values)]).to_study()
    assert study.trials[0].distributions["x"] == distribution


def load(file: Path, study: str = "abc") -> optuna.Study:
    return optuna.load_study(study_name=study, storage=storage_in(file))


def write(sweep: SweepResult, file: Path, earlier: Path | None = None) -> Path:
    write_storage(sweep, file, lambda run_id: {0: 3.0, 10: 0.5}, earlier=earlier)
    return file


def test_optuna_reads_the_trials_that_it_would_have_written_itself(tmp_path: Path) -> None:
    sweep = replace(odd_sweep(), goal="maximize")
    study, wanted = load(write(sweep, tmp_path / "s.db")), to_study(sweep)
    for trial, expected in zip(study.trials, wanted.trials, strict=True):
        assert trial.intermediate_values == {0: 3.0, 10: 0.5}
        trial.intermediate_values = {}
        trial._trial_id = expected._trial_id
        assert trial == expected
    assert (study.direction, study.metric_names) == (optuna.study.StudyDirection.MAXIMIZE, ["loss"])
    assert study.user_attrs == wanted.user_attrs
    assert study.best_trial.number == wanted.best_trial.number


def test_a_study_can_be_continued(tmp_path: Path) -> None:
    study = load(write(result_of([row(0, {"x": 0.0}, 1.0), row(1, {"x": 1.0}, 2.0)]), tmp_path / "s.db"))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]


def test_a_storage_keeps_other_studies(tmp_path: Path) -> None:
    first = write(odd_sweep(20), tmp_path / "1.db")
    second = write(replace(odd_sweep(10), sweep_id="def"), tmp_path / "2.db", earlier=first)
    third = write(odd_sweep(30), tmp_path / "3.db", earlier=second)
    assert optuna.get_all_study_names(storage_in(third)) == ["def", "abc"]
    assert [len(load(third, name).trials) for name in ("def", "abc")] == [10, 30]
    assert load(third).trials[29].user_attrs["run_id"] == "run29"


@contextmanager
def sqlite_storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_the_studies_of_a_sqlite_file_of_an_earlier_release_are_kept(tmp_path: Path) -> None:
    earlier = tmp_path / "old.db"
    with sqlite_storage(earlier) as storage:
        to_study(replace(odd_sweep(3), sweep_id="def"), storage=storage)
        to_study(odd_sweep(1), storage=storage)
    before = earlier.read_bytes()
    written = write(odd_sweep(2), tmp_path / "new", earlier=earlier)
    assert [len(load(written, name).trials) for name in ("def", "abc")] == [3, 2]
    assert earlier.read_bytes() == before


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100% {odd}?#"
    folder.mkdir()
    write(odd_sweep(2), folder / "s.db").rename(tmp_path / "s.db")
    assert len(load(tmp_path / "s.db").trials) == 2
    with pytest.raises(OSError, match="No such file"):
        write(odd_sweep(2), tmp_path / "nowhere" / "s.db")


def test_a_file_that_is_no_storage_of_this_version_is_not_overwritten(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").__exit__(None, None, None)
    (tmp_path / "notes.txt").write_text("notes" * 1000)
    with sqlite_storage(tmp_path / "s.db") as storage:
        to_study(odd_sweep(2), storage=storage)
    with closing(sqlite3.connect(tmp_path / "s.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    for name in ("ledger.db", "notes.txt", "s.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match=rf"{name} exists and is not an Optuna storage"):
            write(replace(odd_sweep(2), sweep_id="def"), tmp_path / "new.db", earlier=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("seeds", [[], [f"{10**400}", "7"]])
def test_a_storage_may_have_no_trials_or_a_huge_integer(tmp_path: Path, seeds: list[str]) -> None:
    sweep = result_of([row(number, {"seed": int(seed)}) for number, seed in enumerate(seeds)])
    assert [trial.params["seed"] for trial in load(write(sweep, tmp_path / "s.db")).trials] == seeds
