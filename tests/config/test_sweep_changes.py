"""Changes of a sweep configuration since its creation."""

from __future__ import annotations

from typing import Any

import pytest

from parallel_hpo.config.sweep import find_changes, in_words
from parallel_hpo.config.sweep_types import SEED

SWEEP = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}, "n": {"values": [1, 2]}},
}


@pytest.mark.parametrize(
    "same",
    [
        {"metric": {"name": "loss", "goal": "minimize"}},
        {"parameters": {"x": {"min": 0, "max": 1.0, "distribution": "uniform"}, "n": {"values": (1, 2)}}},
        {"project": "p", "entity": "e", "program": "train.py", "command": ["${program}"], SEED: 7},
        {"early_terminate": None},
    ],
)
def test_completed_defaults_are_no_change(same: dict[str, Any]) -> None:
    assert find_changes(SWEEP, SWEEP | same) == find_changes(SWEEP | same, SWEEP) == ()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"method": "bayes"}, 'method is "bayes" (it was "random")'),
        ({"metric": {"name": "loss", "goal": "maximize"}}, 'metric.goal is "maximize" (it was "minimize")'),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 3}},
            (
                'early_terminate.type is "hyperband" (it was not set), '
                "early_terminate.min_iter is 3 (it was not set)"
            ),
        ),
        (
            {"parameters": {"x": {"min": 0.0, "max": 2.0}, "n": {"values": [1, 2, 3]}}},
            "parameters.x.max is 2.0 (it was 1.0), parameters.n.values is [1, 2, 3] (it was [1, 2])",
        ),
        ({"run_cap": 4}, "run_cap is 4 (it was not set)"),
        (
            {"metric": None},
            'metric.name is not set (it was "loss"), metric.goal is not set (it was "minimize")',
        ),
    ],
)
def test_each_key_that_differs_is_named_with_its_new_and_its_old_value(
    changed: dict[str, Any], words: str
) -> None:
    assert in_words(find_changes(SWEEP | changed, SWEEP)) == words


def test_true_differs_from_1() -> None:
    with_true = SWEEP | {"parameters": {"x": {"value": True}}}
    assert in_words(find_changes(with_true, SWEEP | {"parameters": {"x": {"value": 1}}})) == (
        "parameters.x.value is true (it was 1)"
    )


def test_only_name_and_goal_of_the_metric_are_compared() -> None:
    target, name = ({"metric": {"name": n, **more}} for n, more in (("loss", {"target": 0.1}), ("acc", {})))
    assert [change.is_of_metric for change in find_changes(SWEEP | target, SWEEP)] == [False]
    assert [change.is_of_metric for change in find_changes(SWEEP | name, SWEEP)] == [True]
