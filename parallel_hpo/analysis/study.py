"""A sweep as an Optuna study, with a trial per run, in memory or in a journal file for `optuna-dashboard
FILE`.

finished, with a value ─▶ COMPLETE      failed, crashed, lost, no value ─▶ FAIL
stopped                ─▶ PRUNED        running                         ─▶ RUNNING

Distributions are made from the observed values. Values that W&B allows and Optuna doesn't (lists, NaN, mixed
types) become categories, as text. With 10,000 trials of 20 intermediate values on two cores, Optuna wrote a
journal in 8 s and loaded it in 3 s. A SQLite file took 50 ms a trial to write, and 15 s to load.
"""

from __future__ import annotations

import math
import sqlite3
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.table import AnalysedSweep, RunSummary, as_text
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import OPEN, Outcome
from parallel_hpo.core.values import dotted
from parallel_hpo.core.version import library

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState

EXTRA: Final = "plots"
OPTUNA: Final = 5
"""Minimum version of Optuna: in earlier ones, plots leave out runs without some parameter, and are slow."""
LOG_FROM: Final = 100.0
"""Minimum ratio of highest to lowest value for a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter's distribution, and the conversion of its values for it."""

    distribution: BaseDistribution
    convert: Callable[[Any], Any]


def axes_of(points: Iterable[Mapping[str, Any]]) -> dict[str, Axis]:
    """Return the axis of each parameter by name, in the order of first appearance."""
    values: dict[str, list[Any]] = {}
    for point in points:
        for name, value in point.items():
            values.setdefault(name, []).append(value)
    return {name: _axis(observed) for name, observed in values.items()}


def varying(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the parameters that differ between points, or that some points lack."""
    points = list(points)
    texts: dict[str, set[str]] = {}
    for point in points:
        for name, value in point.items():
            texts.setdefault(name, set()).add(as_text(value))
    held = {name: sum(name in point for point in points) for name in texts}
    return [name for name, seen in texts.items() if len(seen) > 1 or held[name] < len(points)]


def is_logarithmic(values: Sequence[float]) -> bool:
    """Return whether numbers look log-uniform rather than uniform, by the position of their median."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < LOG_FROM:
        return False
    return _askew([math.log(value) for value in values]) <= _askew(values)


def _askew(values: Sequence[float]) -> float:
    """Return the distance of the median from the middle of the range, from 0 to 0.5 of the range."""
    low, high = min(values), max(values)
    return abs((median(values) - low) / (high - low) - 0.5)


def _axis(values: list[Any]) -> Axis:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kinds = {type(value) for value in values}
    if kinds == {int} and all(map(_is_drawable, values)):
        return Axis(IntDistribution(min(values), max(values), log=is_logarithmic(values)), int)
    if kinds <= {int, float} and all(map(_is_drawable, values)):
        return Axis(FloatDistribution(min(values), max(values), log=is_logarithmic(values)), float)
    convert = bool if kinds == {bool} else as_text
    return Axis(CategoricalDistribution(list(dict.fromkeys(map(convert, values)))), convert)


def _is_drawable(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # an integer may have any length


MetricHistory = Mapping[int, float]
"""A run's values of the sweep's metric by step."""


def to_study(sweep: AnalysedSweep, *, storage: BaseStorage | None = None) -> optuna.Study:
    """Return the sweep as a study, in memory by default; `user_attrs` contain the runs' ids and outcomes."""
    study = create_study(sweep, storage)
    study.add_trials(trials_of(sweep))
    return study


def uncopied_storage() -> BaseStorage:
    """Return a storage that doesn't copy trials: a plot reads all up to eleven times, 0.3 ms a copy."""
    import_optuna()
    from optuna.storages import InMemoryStorage

    class Uncopied(InMemoryStorage):
        def get_all_trials(
            self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
        ) -> list[FrozenTrial]:
            return super().get_all_trials(study_id, deepcopy=False, states=states)

    return Uncopied()


def create_study(sweep: AnalysedSweep, storage: BaseStorage | None) -> optuna.Study:
    """Create the study of a sweep, without its trials."""
    module = import_optuna()
    with quiet():
        study: optuna.Study = module.create_study(
            storage=storage,
            study_name=sweep.sweep_id or None,
            direction="maximize" if sweep.goal == "maximize" else "minimize",
        )
        if sweep.metric is not None:
            study.set_metric_names([sweep.metric])
    study.set_user_attr("metric", sweep.metric)
    return study


def trials_of(
    sweep: AnalysedSweep, history_of: Callable[[str], MetricHistory] = lambda run_id: {}
) -> Iterator[FrozenTrial]:
    """Yield the trial of each run; `history_of` returns the intermediate values by run id."""
    points = [dict(dotted(run.parameters)) for run in sweep.runs]
    axes = axes_of(points)
    for number, run in enumerate(sweep.runs):
        yield _trial(number, run, points[number], axes, history_of(run.run_id))


def import_optuna() -> Any:
    """Return Optuna, which takes half a second to import.

    Raises:
        MissingExtraError: it is not installed, or too old.
    """
    return library("optuna", extra=EXTRA, at_least=OPTUNA, load=_import_quietly)


def _import_quietly() -> Any:
    with warnings.catch_warnings():
        # In a notebook, tqdm warns about missing ipywidgets, which nothing here needs.
        warnings.filterwarnings("ignore", message="IProgress not found")
        return import_module("optuna")


def _trial(
    number: int, run: RunSummary, point: Mapping[str, Any], axes: Mapping[str, Axis], history: MetricHistory
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
        params={name: axes[name].convert(value) for name, value in point.items()},
        distributions={name: axes[name].distribution for name in point},
        user_attrs={name: getattr(run, name) for name in known},
        system_attrs={},
        intermediate_values=dict(history),
    )


def _state(run: RunSummary) -> str:
    match run.outcome:
        case Outcome.FINISHED if run.value is not None:
            return "COMPLETE"
        case Outcome.STOPPED:
            return "PRUNED"
        case _ if run.outcome == OPEN:
            return "RUNNING"
    return "FAIL"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages about created studies and the experimental metric names."""
    from optuna import exceptions, logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ExperimentalWarning)
            yield
    finally:
        logging.set_verbosity(before)


_SQLITE: Final = b"SQLite format 3\0"


def write_storage(
    sweep: AnalysedSweep,
    file: Path,
    history_of: Callable[[str], MetricHistory],
    *,
    earlier: Path | None = None,
) -> None:
    """Write a new file with the sweep's study, and with the other studies of the storage `earlier`.

    Raises:
        UsageError: the installed Optuna can't read `earlier`.
        OSError: the file can't be written.
    """
    storage = _journal(file)
    if earlier is not None:
        _copy_others(earlier, sweep.sweep_id, storage)
    create_study(sweep, storage).add_trials(trials_of(sweep, history_of))


def _journal(file: Path) -> BaseStorage:
    import_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file)))


def _copy_others(earlier: Path, study: str, to: BaseStorage) -> None:
    """Copy all studies except this one."""
    optuna = import_optuna()
    try:
        with quiet(), _opened(earlier) as storage:
            names = optuna.get_all_study_names(storage)
            if not names:
                raise ValueError("it has no studies")
            for name in names:
                if name != study:
                    optuna.copy_study(
                        from_study_name=name, from_storage=storage, to_storage=to, to_study_name=name
                    )
    except Exception as error:  # noqa: BLE001  # it may be any file, and Optuna's readers raise anything
        why = str(error).partition("\n")[0]
        raise UsageError(
            f"{earlier} exists and is not an Optuna storage that can be read ({why}): choose another file"
        ) from None


@contextmanager
def _opened(earlier: Path) -> Iterator[BaseStorage]:
    """Open a journal, or read-only a SQLite file from an earlier release."""
    with earlier.open("rb") as opened:
        is_sqlite = opened.read(len(_SQLITE)) == _SQLITE
    if not is_sqlite:
        yield _journal(earlier)
        return
    from optuna.storages import RDBStorage

    uri = f"{earlier.absolute().as_uri()}?mode=ro"
    with ExitStack() as connections:  # also closes them if Optuna refuses the file

        def connect() -> sqlite3.Connection:
            return connections.enter_context(closing(sqlite3.connect(uri, uri=True, check_same_thread=False)))

        storage = RDBStorage("sqlite://", engine_kwargs={"creator": connect})
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
