"""An Optuna storage, read back by Optuna."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.analysis.study import to_study, write_storage
from parallel_hpo.core.errors import UsageError
from parallel_hpo.records.ledger import Ledger
from tests.analysis.sweeps import odd_sweep, result_of, row
from tests.storages import storage_in

Load = Callable[..., optuna.Study]


def write(sweep: SweepResult, file: Path, earlier: Path | None = None) -> Path:
    write_storage(sweep, file, lambda run_id: {0: 3.0, 10: 0.5}, earlier=earlier)
    return file


@pytest.fixture
def load() -> Load:
    """Load a study of a file with Optuna."""
    return lambda file, study="abc": optuna.load_study(study_name=study, storage=storage_in(file))


def test_optuna_reads_the_trials_that_it_would_have_written_itself(tmp_path: Path, load: Load) -> None:
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


def test_a_study_can_be_continued(tmp_path: Path, load: Load) -> None:
    study = load(write(result_of([row(0, {"x": 0.0}, 1.0), row(1, {"x": 1.0}, 2.0)]), tmp_path / "s.db"))
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]


def test_a_storage_keeps_other_studies(tmp_path: Path, load: Load) -> None:
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


def test_the_studies_of_a_sqlite_file_of_an_earlier_release_are_kept(tmp_path: Path, load: Load) -> None:
    earlier = tmp_path / "old.db"
    with sqlite_storage(earlier) as storage:
        to_study(replace(odd_sweep(3), sweep_id="def"), storage=storage)
        to_study(odd_sweep(1), storage=storage)
    before = earlier.read_bytes()
    written = write(odd_sweep(2), tmp_path / "new", earlier=earlier)
    assert [len(load(written, name).trials) for name in ("def", "abc")] == [3, 2]
    assert earlier.read_bytes() == before


def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    with (
        Ledger(tmp_path / "ledger.db"),
        pytest.raises(UsageError, match=r"ledger\.db exists and is not an Optuna"),
    ):
        write(odd_sweep(2), tmp_path / "new.db", earlier=tmp_path / "ledger.db")
    (tmp_path / "notes.txt").write_text("notes" * 1000)
    with pytest.raises(UsageError, match=r"notes\.txt exists and is not an Optuna storage"):
        write(odd_sweep(2), tmp_path / "new.db", earlier=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "notes" * 1000


def test_a_storage_of_another_version_of_optuna_is_refused(tmp_path: Path) -> None:
    earlier = tmp_path / "s.db"
    with sqlite_storage(earlier) as storage:
        to_study(odd_sweep(2), storage=storage)
    with closing(sqlite3.connect(earlier)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    with pytest.raises(UsageError, match=r"s\.db exists and is not an Optuna storage"):
        write(replace(odd_sweep(2), sweep_id="def"), tmp_path / "new.db", earlier=earlier)


def test_a_folder_may_have_any_name(tmp_path: Path, load: Load) -> None:
    folder = tmp_path / "100% {odd}?#"
    folder.mkdir()
    write(odd_sweep(2), folder / "s.db").rename(tmp_path / "s.db")
    assert len(load(tmp_path / "s.db").trials) == 2
    with pytest.raises(OSError, match="No such file"):
        write(odd_sweep(2), tmp_path / "nowhere" / "s.db")


def test_a_huge_integer_is_text(tmp_path: Path, load: Load) -> None:
    sweep = result_of([row(0, {"seed": 10**400}), row(1, {"seed": 7})])
    values = [trial.params["seed"] for trial in load(write(sweep, tmp_path / "s.db")).trials]
    assert values == [f"{10**400}", "7"]


def test_a_sweep_without_runs_has_a_study_without_trials(tmp_path: Path, load: Load) -> None:
    assert load(write(result_of([]), tmp_path / "s.db")).trials == []
