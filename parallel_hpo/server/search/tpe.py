"""Optuna's TPE sampler, one suggestion at a time.

TPE models the density of the best observations and of all others, and suggests the candidate with the highest
ratio of the two. An observation without a finite loss (running or failed) counts among the others, so TPE
avoids its neighbourhood. This is Optuna's "constant liar".
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from parallel_hpo.server.search.axes import Axis, LevelAxis, Observation

Space = Mapping[str, BaseDistribution]

_STUDY = "sweep"
_SUGGESTIONS = 4
"""Number of suggestions per ask, because the first may be known already."""
_MAX_LEVELS = 100_000
"""Number of levels from which an axis is treated as continuous; TPE's mass of one level would be 0."""


class _History(InMemoryStorage):
    """Gives a sampler the trials uncopied; Optuna's storage copies each one in 0.1 ms."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._trials = trials
        self.create_new_study([StudyDirection.MINIMIZE], _STUDY)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        """Do nothing: Optuna marks pending suggestions this way; here the caller tells them."""


def suggestions(
    axes: Sequence[Axis], observations: Sequence[Observation], *, seed: int
) -> Iterator[tuple[float, ...]]:
    """Yield the coordinates of points to try, each drawn independently; a lower loss is better."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {_name(number): _distribution(axis) for number, axis in enumerate(axes)}
    history = _History([_trial(observation, space) for observation in observations])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # both options were experimental before Optuna 5
        sampler = TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True)
    unseen = 1 + max((observation.index for observation in observations), default=-1)
    asked = _trial(Observation(unseen, (), None), {})  # an unused number: TPE ignores the trial with it
    study = Study(_STUDY, history, sampler)
    for _ in range(_SUGGESTIONS):
        coordinates = sampler.sample_relative(study, asked, space)
        yield tuple(coordinates[_name(number)] for number in range(len(axes)))


def _name(number: int) -> str:
    return str(number)


def _distribution(axis: Axis) -> BaseDistribution:
    if not isinstance(axis, LevelAxis):
        return FloatDistribution(0.0, 1.0)
    last = axis.levels.size - 1
    if not axis.ordered:
        return CategoricalDistribution(range(axis.levels.size))
    return IntDistribution(0, last) if last < _MAX_LEVELS else FloatDistribution(0.0, float(last))


def _trial(observation: Observation, space: Space) -> FrozenTrial:
    known = observation.loss is not None and math.isfinite(observation.loss)
    return FrozenTrial(
        number=observation.index,
        trial_id=observation.index,
        state=TrialState.COMPLETE if known else TrialState.RUNNING,
        value=observation.loss if known else None,
        datetime_start=None,
        datetime_complete=None,
        params={name: observation.coordinates[int(name)] for name in space},
        distributions=dict(space),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
