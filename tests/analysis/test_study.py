from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import odd_sweep, result_of, row


def axis(values: list[Any]) -> Any:
    """Return the distribution of a parameter with these values."""
    study = result_of([row(number, {"x": value}) for number, value in enumerate(values)]).to_study()
    return study.trials[0].distributions["x"]


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
    assert [trial.state for trial in result_of(rows).to_study().trials] == list(ends.values())


def test_a_trial_has_its_runs_duration() -> None:
    first, second = result_of([row(0, {}), row(1, {})]).to_study().trials
    assert first.duration == timedelta(seconds=2.5)
    assert first.datetime_start and second.datetime_start
    assert second.datetime_start - first.datetime_start == timedelta(seconds=1)


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
    assert axis(values) == distribution


def test_a_study_contains_odd_runs() -> None:
    result = odd_sweep()
    study = result.to_study()
    assert len(study.trials) == len(result.runs) == 60
    assert Counter(trial.state.name for trial in study.trials)["PRUNED"] == result.stopped
    assert {"optimizer.lr", "layers", "momentum"} <= set(study.trials[0].params) | {"momentum"}


def test_a_sweep_without_runs_has_an_empty_study() -> None:
    assert result_of([]).to_study().trials == []
