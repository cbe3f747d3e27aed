"""Optuna's TPE sampler, asked for one point at a time. The only importer of optuna.

TPE models where the best observations lie and where all others do, and suggests the
candidate that the first model favours most over the second. An observation without
a loss (still running, or failed) counts among the others: a place not to go to
again, that adds nothing to what is known. That is Optuna's "constant liar".
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from parallel_hpo.search.axes import Axis, LevelAxis, Observation

Space = Mapping[str, BaseDistribution]

_STUDY = "sweep"
_ASKED = -1
"""The number of the trial that is asked for: none of those observed."""
_FINE = 100_000
"""From so many levels on an axis is taken for continuous: TPE's mass of one level would come out as 0."""


class _History(InMemoryStorage):
    """Shows a sampler the trials as they are; Optuna's own way copies each, at 0.1 ms."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._trials = trials
        self.create_new_study([StudyDirection.MINIMIZE], _STUDY)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: object) -> None:
        """Optuna shares a suggestion so with others; ours is told as pending."""


def suggest(axes: Sequence[Axis], observations: Sequence[Observation], *, seed: int) -> tuple[float, ...]:
    """Return the place on each axis of the next point to try; a lower loss is better."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {_name(number): _distribution(axis) for number, axis in enumerate(axes) if not _is_single(axis)}
    history = _History([_trial(observation, space) for observation in observations])
    sampler = TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True)
    asked = _trial(Observation(_ASKED, (), None), {})
    places = sampler.sample_relative(Study(_STUDY, history, sampler), asked, space)
    return tuple(places.get(_name(number), 0) for number in range(len(axes)))


def _name(number: int) -> str:
    return str(number)


def _is_single(axis: Axis) -> bool:
    return isinstance(axis, LevelAxis) and axis.levels.size == 1


def _distribution(axis: Axis) -> BaseDistribution:
    if not isinstance(axis, LevelAxis):
        return FloatDistribution(0.0, 1.0)
    last = axis.levels.size - 1
    if not axis.ordered:
        return CategoricalDistribution(range(axis.levels.size))
    return IntDistribution(0, last) if last < _FINE else FloatDistribution(0.0, float(last))


def _trial(observation: Observation, space: Space) -> FrozenTrial:
    return FrozenTrial(
        number=observation.index,
        trial_id=observation.index,
        state=TrialState.RUNNING if observation.loss is None else TrialState.COMPLETE,
        value=observation.loss,
        datetime_start=None,
        datetime_complete=None,
        params={name: observation.places[int(name)] for name in space},
        distributions=dict(space),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
