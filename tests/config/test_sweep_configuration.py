"""Valid sweep configurations, and their changes since a sweep's creation."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from parallel_hpo.config.sweep import find_changes, in_words, parse_sweep_configuration
from parallel_hpo.config.sweep_types import (
    SEED,
    Beta,
    Categorical,
    Constant,
    Distribution,
    Goal,
    IntUniform,
    LogNormal,
    LogUniform,
    Method,
    Metric,
    Normal,
    SweepConfiguration,
    Uniform,
)

WHERE = "hpo.sweep_configuration"

SEED_SWEEP = """
{"method": "random", "metric": {"goal": "maximize", "name": "cv_score"},
 "parameters": {"models": {"parameters": {"SplitEvent-1D-Unet-CNN": {"parameters": {
   "type": {"value": "split-event-seg-unet-1d-cnn"}, "loss": {"value": "mse-torch"},
   "optimizer": {"value": "adam-torch"}, "epochs": {"values": [3, 5, 7]}, "batch_size": {"value": 32},
   "lr": {"value": 0.0005}, "hidden_layers": {"value": 8}, "early_stopping": {"value": 7},
   "threshold": {"value": 0}}}}}}}
"""


def parse(config: dict[str, Any]) -> SweepConfiguration:
    return parse_sweep_configuration(config, where=WHERE)


def with_parameter(spec: object, *, method: str = "random") -> dict[str, Any]:
    return {"method": method, "parameters": {"x": spec}}


def with_keys(**keys: object) -> dict[str, Any]:
    return {"method": "random", "parameters": {"x": {"value": 1}}, **keys}


def test_the_nested_example_is_read_in_full() -> None:
    configuration = parse(json.loads(SEED_SWEEP))
    assert configuration.method is Method.RANDOM
    assert configuration.metric == Metric("cv_score", Goal.MAXIMIZE)
    assert len(configuration.parameters) == 9
    epochs = next(item for item in configuration.parameters if item.path[-1] == "epochs")
    assert epochs.path == ("models", "SplitEvent-1D-Unet-CNN", "epochs")
    assert epochs.distribution == Categorical((3, 5, 7))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"value": [1, {"a": None}]}, Constant([1, {"a": None}])),
        ({"value": 1, "distribution": "constant"}, Constant(1)),
        ({"values": [1, "a", True, None]}, Categorical((1, "a", True, None))),
        ({"values": [1, 2], "probabilities": [0.25, 0.75]}, Categorical((1, 2), (0.25, 0.75))),
        ({"min": 1, "max": 5}, IntUniform(1, 5)),
        ({"min": 1.0, "max": 5.0}, Uniform(1.0, 5.0)),
        ({"min": 1, "max": 5.5}, Uniform(1, 5.5)),
        ({"distribution": "uniform", "min": 1, "max": 5}, Uniform(1, 5)),
        ({"distribution": "q_uniform", "min": 0, "max": 10}, Uniform(0, 10, 1.0)),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 2}, Uniform(0, 10, 2)),
        ({"distribution": "log_uniform", "min": 0, "max": 1}, LogUniform(1.0, math.e)),
        ({"distribution": "inv_log_uniform", "min": -1, "max": 0}, LogUniform(1.0, math.e)),
        ({"distribution": "log_uniform_values", "min": 0.1, "max": 10}, LogUniform(0.1, 10.0)),
        ({"distribution": "inv_log_uniform_values", "min": 0.1, "max": 10}, LogUniform(0.1, 10.0)),
        ({"distribution": "q_log_uniform", "min": 0, "max": 1, "q": 1}, LogUniform(1.0, math.e, 1)),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 9}, LogUniform(1.0, 9.0, 1.0)),
        ({"distribution": "normal"}, Normal(0.0, 1.0)),
        ({"distribution": "normal", "mu": 2, "sigma": 3}, Normal(2.0, 3.0)),
        ({"distribution": "q_normal", "q": 0.5}, Normal(0.0, 1.0, 0.5)),
        ({"distribution": "log_normal", "sigma": 0.1}, LogNormal(0.0, 0.1)),
        ({"distribution": "q_log_normal"}, LogNormal(0.0, 1.0, 1.0)),
        ({"distribution": "beta", "a": 2}, Beta(2.0, 1.0)),
        ({"distribution": "q_beta", "b": 2, "q": 0.1}, Beta(1.0, 2.0, 0.1)),
    ],
)
def test_each_distribution_is_read_with_its_defaults(spec: dict[str, Any], expected: Distribution) -> None:
    (parameter,) = parse(with_parameter(spec)).parameters
    assert parameter.distribution == expected


@pytest.mark.parametrize(
    "spec",
    [
        {"value": 1},
        {"values": [1, 2]},
        {"values": [1, 2], "probabilities": [0.5, 0.5]},
        {"min": 1, "max": 5},
        {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.5},
    ],
)
def test_a_grid_accepts_countable_parameters(spec: dict[str, Any]) -> None:
    assert parse(with_parameter(spec, method="grid")).method is Method.GRID


@pytest.mark.parametrize(
    "keys",
    [
        {"name": "n", "description": "d", "program": "train.py", "command": ["${env}"], "project": "p"},
        {"entity": "e", "controller": {"type": "cloud"}, "apiVersion": "1", "kind": "sweep", "job": "j"},
        {"image_uri": "i", "metrics": [{"name": "a"}, {"name": "b"}], "scheduler": {"engine": "wandb"}},
    ],
)
def test_other_keys_of_wandb_are_accepted(keys: dict[str, Any]) -> None:
    assert parse(with_keys(**keys)).parameters


def test_a_metric_is_minimized_by_default() -> None:
    configuration = parse(with_keys(metric={"name": "loss", "target": 0.1, "impute": "worst"}, run_cap=3))
    assert configuration.metric == Metric("loss", Goal.MINIMIZE, 0.1)
    assert configuration.run_cap == 3


@pytest.mark.parametrize("rule", [{"min_iter": 3}, {"max_iter": 27, "s": 2, "eta": 3, "strict": True}])
def test_hyperband_accepts_a_first_or_a_last_iteration(rule: dict[str, Any]) -> None:
    keys = with_keys(metric={"name": "loss"}, early_terminate={"type": "hyperband", **rule})
    assert parse(keys).metric == Metric("loss")


CREATED: dict[str, Any] = {
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
def test_explicit_defaults_are_no_change(same: dict[str, Any]) -> None:
    assert find_changes(CREATED, CREATED | same) == find_changes(CREATED | same, CREATED) == ()


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
            {"parameters": CREATED["parameters"] | {"n": {"values": [True, 2]}}},
            "parameters.n.values is [true, 2] (it was [1, 2])",
        ),
        (
            {"metric": None},
            'metric.name is not set (it was "loss"), metric.goal is not set (it was "minimize")',
        ),
    ],
)
def test_each_changed_key_is_reported_with_its_new_and_old_value(changed: dict[str, Any], words: str) -> None:
    assert in_words(find_changes(CREATED | changed, CREATED)) == words


@pytest.mark.parametrize(
    ("metric", "is_of_metric"), [({"name": "loss", "target": 0.1}, False), ({"name": "acc"}, True)]
)
def test_only_a_new_name_or_goal_counts_as_a_change_of_the_metric(
    metric: dict[str, Any], is_of_metric: bool
) -> None:
    (change,) = find_changes(CREATED | {"metric": metric}, CREATED)
    assert change.is_of_metric is is_of_metric
