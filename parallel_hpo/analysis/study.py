"""A sweep as an Optuna study: each run a trial, with distributions made of what was observed.

finished, with a value ─▶ COMPLETE      failed, crashed, lost, no value ─▶ FAIL
stopped                ─▶ PRUNED        under way                       ─▶ RUNNING
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from parallel_hpo.analysis.axes import Axis, axes_of
from parallel_hpo.analysis.runs import AnalysedRun, AnalysedSweep
from parallel_hpo.nested import dotted
from parallel_hpo.words import OPEN, Outcome

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


Course = Mapping[int, float]
"""What a run logged as the sweep's metric, by its steps."""


def to_study(sweep: AnalysedSweep, *, storage: BaseStorage | None = None) -> optuna.Study:
    """Return the study; its trials have the runs' ids and ends as `user_attrs`. None: it is in memory."""
    study = create_study(sweep, storage)
    study.add_trials(trials_of(sweep))
    return study


def create_study(sweep: AnalysedSweep, storage: BaseStorage | None) -> optuna.Study:
    """Return the study of a sweep, without its trials."""
    library = import_optuna()
    with _quiet():
        study: optuna.Study = library.create_study(
            storage=storage,
            study_name=sweep.sweep_id or None,
            direction="maximize" if sweep.goal == "maximize" else "minimize",
        )
        if sweep.metric is not None:
            study.set_metric_names([sweep.metric])
    study.set_user_attr("metric", sweep.metric)
    return study


def trials_of(
    sweep: AnalysedSweep, course_of: Callable[[str], Course] = lambda run_id: {}
) -> Iterator[FrozenTrial]:
    """Yield the trial of each run; `course_of` says what a run, by its id, has for intermediate values."""
    points = [dict(dotted(run.parameters)) for run in sweep.runs]
    axes = axes_of(points)
    for number, run in enumerate(sweep.runs):
        yield _trial(number, run, points[number], axes, course_of(run.run_id))


def import_optuna() -> Any:
    """Return Optuna, which takes half a second to import."""
    with warnings.catch_warnings():
        # In a notebook tqdm asks for ipywidgets, which nothing here needs.
        warnings.filterwarnings("ignore", message="IProgress not found")
        return import_module("optuna")


def _trial(
    number: int, run: AnalysedRun, point: Mapping[str, Any], axes: Mapping[str, Axis], course: Course
) -> FrozenTrial:
    import optuna

    state = _state(run)
    start = datetime.fromtimestamp(run.started_at or 0.0, UTC).astimezone().replace(tzinfo=None)
    known = ("run_id", "outcome", "reason", "attempts", "slot", "device", "value", "machine")
    return optuna.trial.FrozenTrial(
        number=number,
        trial_id=number,
        state=optuna.trial.TrialState[state],
        value=run.value if state == "COMPLETE" else None,
        datetime_start=start,
        datetime_complete=None if state == "RUNNING" else start + timedelta(seconds=run.duration_s or 0.0),
        params={name: axes[name].place(value) for name, value in point.items()},
        distributions={name: axes[name].distribution for name in point},
        user_attrs={name: getattr(run, name) for name in known},
        system_attrs={},
        intermediate_values=dict(course),
    )


def _state(run: AnalysedRun) -> str:
    match run.outcome:
        case Outcome.FINISHED if run.value is not None:
            return "COMPLETE"
        case Outcome.STOPPED:
            return "PRUNED"
        case _ if run.outcome == OPEN:
            return "RUNNING"
    return "FAIL"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling that a study was made, and that a metric's name is an experiment."""
    from optuna import exceptions, logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(before)
