"""A sweep's study in an Optuna storage of its own: a SQLite file, as `optuna-dashboard sqlite:///FILE` opens.

Optuna makes the tables and the study. Its trials are written here, into tables that it has had since its
version 3.2: Optuna itself takes 20 ms for a trial, and 2 more for each intermediate value.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.runs import AnalysedSweep
from parallel_hpo.analysis.study import Course, create_study, import_optuna, trials_of
from parallel_hpo.errors import UsageError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_TRIAL: Final = (
    "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_VALUE: Final = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, 0, ?, 'FINITE')"
_PARAMETER: Final = (
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
)
_ATTRIBUTE: Final = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
_INTERMEDIATE: Final = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
    " VALUES (?, ?, ?, 'FINITE')"
)
_OF_A_TRIAL: Final = (
    *("trial_values", "trial_params", "trial_intermediate_values", "trial_heartbeats"),
    *("trial_user_attributes", "trial_system_attributes"),
)


def write_storage(
    sweep: AnalysedSweep, file: Path, course_of: Callable[[str], Course], *, earlier: Path | None = None
) -> None:
    """Write a new file with the sweep's study, and with the other studies that the storage `earlier` has.

    Raises:
        UsageError: `earlier` is no storage of this Optuna.
        OSError: the file can't be written.
    """
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as db:
        others = earlier is not None and _take_over(earlier, sweep.sweep_id, db)
        study_id = _begin_study(sweep, db, f"{earlier}", others=others)
        _write(db, study_id, trials_of(sweep, course_of))
        with _as_os_errors(), closing(sqlite3.connect(file)) as written:
            db.backup(written)


def _take_over(earlier: Path, study: str, db: sqlite3.Connection) -> bool:
    """Copy a storage that has studies besides this one; return whether it has."""
    try:
        with closing(sqlite3.connect(f"{earlier.absolute().as_uri()}?mode=ro", uri=True)) as old:
            query = "SELECT study_name FROM studies JOIN version_info"
            others = {name for (name,) in old.execute(query)} - {study}
            if others:
                old.backup(db)
    except sqlite3.Error as error:
        raise UsageError(f"{earlier} is there, and no Optuna storage ({error}): name another file") from None
    return bool(others)


def _begin_study(sweep: AnalysedSweep, db: sqlite3.Connection, earlier: str, *, others: bool) -> int:
    """Make the study in the place of an earlier one of its name, and return its id."""
    optuna = import_optuna()
    try:
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": lambda: db})
    except RuntimeError as error:
        raise UsageError(f"{earlier} is of another version of Optuna: {error}") from None
    if others and sweep.sweep_id in optuna.get_all_study_names(storage):
        _delete_trials(db, storage.get_study_id_from_name(sweep.sweep_id))
        optuna.delete_study(study_name=sweep.sweep_id, storage=storage)
    study = create_study(sweep, storage)
    return int(storage.get_study_id_from_name(study.study_name))


def _delete_trials(db: sqlite3.Connection, study_id: int) -> None:
    """Delete them here, as Optuna takes 5 ms for each."""
    for table in _OF_A_TRIAL:
        db.execute(
            f"DELETE FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)",
            (study_id,),
        )
    db.execute("DELETE FROM trials WHERE study_id = ?", (study_id,))
    db.commit()


def _write(db: sqlite3.Connection, study_id: int, trials: Iterable[FrozenTrial]) -> None:
    from optuna.distributions import distribution_to_json

    (last,) = db.execute("SELECT COALESCE(MAX(trial_id), 0) FROM trials").fetchone()
    for trial in trials:
        key = last + 1 + trial.number
        moments = [_moment(at) for at in (trial.datetime_start, trial.datetime_complete)]
        db.execute(_TRIAL, (key, trial.number, study_id, trial.state.name, *moments))
        if trial.value is not None:
            db.execute(_VALUE, (key, trial.value))
        axes = trial.distributions
        placed = ((name, axes[name].to_internal_repr(value)) for name, value in trial.params.items())
        db.executemany(_PARAMETER, [(key, name, at, distribution_to_json(axes[name])) for name, at in placed])
        attributes = trial.user_attrs.items()
        db.executemany(_ATTRIBUTE, [(key, name, json.dumps(value)) for name, value in attributes])
        db.executemany(_INTERMEDIATE, [(key, *point) for point in trial.intermediate_values.items()])
    db.commit()


def _moment(at: Any) -> str | None:
    return None if at is None else at.isoformat(" ", "microseconds")


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error)) from None
