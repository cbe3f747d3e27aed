"""Valid and invalid sweep configurations, and their changes since a sweep's creation."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import pytest

from parallel_hpo.config.sweep import (
    find_changes,
    find_suspicious_bounds,
    in_words,
    parse_sweep_configuration,
)
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
from parallel_hpo.core.errors import ConfigError

WHERE = "hpo.sweep_configuration"


def parse(config: dict[str, Any]) -> SweepConfiguration:
    return parse_sweep_configuration(config, where=WHERE)


def with_parameter(spec: object, *, method: str = "random") -> dict[str, Any]:
    return {"method": method, "parameters": {"x": spec}}


def with_keys(**keys: object) -> dict[str, Any]:
    return {"method": "random", "parameters": {"x": {"value": 1}}, **keys}


def test_the_nested_example_is_read_in_full() -> None:
    net = {"parameters": {"epochs": {"values": [3, 5, 7]}, "lr": {"value": 0.0005}}}
    metric = {"goal": "maximize", "name": "cv_score"}
    parameters = {"models": {"parameters": {"U-Net": net}}, "seed": {"value": 1}}
    configuration = parse({"method": "random", "metric": metric, "parameters": parameters})
    assert (configuration.method, configuration.metric) == (Method.RANDOM, Metric("cv_score", Goal.MAXIMIZE))
    assert {each.path: each.distribution for each in configuration.parameters} == {
        ("models", "U-Net", "epochs"): Categorical((3, 5, 7)),
        ("models", "U-Net", "lr"): Constant(0.0005),
        ("seed",): Constant(1),
    }


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
        (
            {"metric": None},
            'metric.name is not set (it was "loss"), metric.goal is not set (it was "minimize")',
        ),
        ({"early_terminate": {"min_iter": 3}}, "early_terminate.min_iter is 3 (it was not set)"),
        (
            {"parameters": {"x": {"min": 0.0, "max": 2.0}, "n": {"values": [1, 2, 3]}}},
            "parameters.x.max is 2.0 (it was 1.0), parameters.n.values is [1, 2, 3] (it was [1, 2])",
        ),
        ({"run_cap": 4}, "run_cap is 4 (it was not set)"),
        (
            {"parameters": CREATED["parameters"] | {"n": {"values": [True, 2]}}},
            "parameters.n.values is [true, 2] (it was [1, 2])",
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


A_METRIC = 'an object such as {"name": "loss", "goal": "minimize"}'
A_PARAMETER = 'allowed: an object such as {"value": 3}, {"values": [3, 5]} or {"min": 0.1, "max": 1.0}'
A_LEVEL = "an object with at least one parameter"
A_NUMBER = "allowed: a number"
A_COUNT = "allowed: a whole number of 1 or more"
NO_TEXT = ", not text (no quotes; YAML needs 1.0e-4 where JSON has 1e-4)"
NATIVE = "allowed: what JSON can hold: null, true, false, finite numbers, strings, lists, objects"


def with_metric(**keys: object) -> dict[str, Any]:
    return with_keys(metric={"name": "l", **keys})


def with_hyperband(**keys: object) -> dict[str, Any]:
    return with_keys(metric={"name": "l"}, early_terminate={"type": "hyperband", **keys})


def with_range(name: str, low: float, high: float, **keys: object) -> dict[str, Any]:
    return {"distribution": name, "min": low, "max": high, **keys}


def error_of(config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(config)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], " is []; allowed: a W&B sweep configuration, with method and parameters"),
        (with_keys(paramters={}), ".paramters: unknown key; did you mean 'parameters'? known: method, "),
        ({"parameters": {"x": {"value": 1}}}, ".method is missing; needed: one of grid, random, bayes"),
        (with_keys(method="gird"), '.method is "gird"; allowed: grid, random, bayes (did you mean '),
        (with_keys(method=3), ".method is 3; allowed: grid, random, bayes"),
        (with_keys(method="custom"), '.method is "custom": such a sweep\'s runs come from a '),
        (with_keys(method="bayes"), f".metric is missing; needed: for method bayes, {A_METRIC}"),
        (with_keys(metric="loss"), f'.metric is "loss"; allowed: {A_METRIC}'),
        (with_keys(metric={}), ".metric.name is missing; needed: the name of a metric that the runs log"),
        (with_keys(metric={"name": ""}), '.metric.name is ""; allowed: a non-empty string'),
        (with_metric(goal="maximise"), '.metric.goal is "maximise"; allowed: minimize, maximize '),
        (with_metric(gaol="maximize"), ".metric.gaol: unknown key; did you mean 'goal'? known: name, goal, "),
        (with_metric(target="1"), f'.metric.target is "1"; {A_NUMBER}{NO_TEXT}'),
        (with_metric(impute="mean"), '.metric.impute is "mean"; allowed: latest, best, worst'),
        *((with_keys(run_cap=cap), f".run_cap is {json.dumps(cap)}; {A_COUNT}") for cap in (0, True, 2.0)),
        (with_keys(early_terminate={"type": "hyperband"}), ".early_terminate needs a metric to judge runs "),
        (with_hyperband(type="envelope"), '.early_terminate.type is "envelope"; allowed: hyperband'),
        (with_hyperband(max_iter=9), ".early_terminate.min_iter is missing; needed: min_iter, or both "),
        (with_hyperband(min_iter=0), f".early_terminate.min_iter is 0; {A_COUNT}"),
        (with_hyperband(min_iter=1, eta=1), ".early_terminate.eta is 1; allowed: a number above 1"),
        (with_hyperband(min_iter=1, strict=1), ".early_terminate.strict is 1; allowed: true or false"),
        ({"method": "grid"}, f".parameters is missing; needed: {A_LEVEL}"),
        (with_keys(parameters={}), f".parameters is {{}}; allowed: {A_LEVEL}"),
    ],
)
def test_an_invalid_sweep_is_a_one_line_error(config: Any, message: str) -> None:
    error = error_of(config)
    assert error.startswith(WHERE + message)
    assert "\n" not in error


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("log_unifrom", "log_uniform"), ("q-log-uniform", "q_log_uniform_values")),
        *((other, "log_uniform_values") for other in ("loguniform", "LogUniform")),
    ],
)
def test_an_unknown_distribution_is_reported_with_the_nearest_and_all_known_ones(
    name: str, meant: str
) -> None:
    message = error_of(with_parameter(with_range(name, 1e-4, 0.1)))
    assert message.startswith(f'{WHERE}.parameters.x.distribution is "{name}"; allowed: constant, ')
    assert message.endswith(f"beta, q_beta (did you mean '{meant}'?)")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (0.1, f" is 0.1; {A_PARAMETER}"),
        ({}, f" is {{}}; {A_PARAMETER}"),
        ({"parameters": {}}, f".parameters is {{}}; allowed: {A_LEVEL}"),
        ({"parameters": {"y": {"min": 1}}}, ".parameters.y.max is missing; needed: both min and max"),
        ({"parameters": {"y": {"value": 1}}, "value": 1}, ".value: unknown key; known: parameters"),
        ({"valeus": [1, 2]}, ".valeus: unknown key; did you mean 'values'? known: "),
        ({"mu": 0, "sigma": 1}, ".distribution is missing; needed: beside mu and sigma, one of "),
        ({"value": 1, "values": [1]}, ".values doesn't go with distribution constant, which takes value"),
        ({"value": math.nan}, f".value is NaN; {NATIVE}"),
        ({"values": [1, [math.inf]]}, f".values[1][0] is Infinity; {NATIVE}"),
        ({"value": {"day": date(2024, 1, 2)}}, f'.value.day is "datetime.date(2024, 1, 2)"; {NATIVE}'),
        ({"value": {3: 4}}, ".value has the key 3; allowed: keys that are non-empty strings"),
        ({"values": []}, ".values is []; allowed: a list of at least one value"),
        ({"values": "abc"}, '.values is "abc"; allowed: a list of at least one value'),
        ({"values": [1, 2], "probabilities": [1]}, ".probabilities is [1]; allowed: a list of 2 numbers"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, ".probabilities is [0.5, 0.6]; allowed: numbers"),
        ({"values": [1, 2], "probabilities": [1.5, -0.5]}, ".probabilities is [1.5, -0.5]; allowed: numbers"),
        ({"values": [1], "probabilities": ["1"]}, f'.probabilities[0] is "1"; {A_NUMBER}{NO_TEXT}'),
        ({"distribution": "categorical_w_probabilities", "values": [1]}, ".probabilities is missing; "),
        ({"min": 5, "max": 5}, ".min is 5; allowed: less than max, which is 5 "),
        ({"max": 5}, ".min is missing; needed: both min and max, for a range"),
        ({"min": True, "max": 5}, f".min is true; {A_NUMBER}"),
        ({"min": "1e-4", "max": 1.0}, f'.min is "1e-4"; {A_NUMBER}{NO_TEXT}'),
        ({"min": 0, "max": 2**60}, ".max is 1152921504606846976; allowed: a whole number between ±2^53"),
        ({"distribution": "uniform", "min": 1}, ".max is missing; needed: min and max, for "),
        ({"distribution": "normal", "min": 0}, ".min doesn't go with distribution normal, which takes "),
        (with_range("int_uniform", 1.5, 5), ".min is 1.5; allowed: a whole number"),
        (with_range("uniform", -math.inf, 1), f".min is -Infinity; {A_NUMBER}"),
        (with_range("uniform", 1, 2, q=1), ".q doesn't go with distribution uniform, which takes min "),
        (with_range("q_uniform", 1, 2, q=0), ".q is 0; allowed: a number above 0"),
        (with_range("q_uniform", 0, 2**60, q=1), ".q is 1; allowed: a step of at least 128, since "),
        (with_range("log_uniform_values", 0, 2), ".min is 0; allowed: a number above 0"),
        (with_range("log_uniform", 1, 4096), ".max is 4096; allowed: an exponent of e between ±700 "),
        ({"distribution": "normal", "sigma": 0}, ".sigma is 0; allowed: a number above 0"),
        ({"distribution": "beta", "a": 0}, ".a is 0; allowed: a number above 0"),
    ],
)
def test_an_invalid_parameter_is_an_error_with_its_path(spec: object, message: str) -> None:
    assert error_of(with_parameter(spec)).startswith(f"{WHERE}.parameters.x{message}")


@pytest.mark.parametrize("name", ["uniform", "log_uniform_values", "q_log_uniform_values", "normal", "beta"])
def test_a_grid_over_a_continuous_parameter_is_refused(name: str) -> None:
    bounds = {"min": 1.0, "max": 2.0} if "uniform" in name else {}
    message = error_of(with_parameter({"distribution": name, **bounds}, method="grid"))
    assert message == (
        f"{WHERE}.parameters.x has the distribution {name}, which a grid can't enumerate;"
        " allowed with method grid: constant, categorical, categorical_w_probabilities,"
        " int_uniform, q_uniform"
        ' (give "values", or choose method random or bayes)'
    )


def test_a_recursive_configuration_is_an_error() -> None:
    spec: dict[str, Any] = {"value": 1}
    for _ in range(5000):
        spec = {"parameters": {"x": spec}}
    assert error_of(with_parameter(spec)) == f"{WHERE} is nested too deeply; allowed: some hundred levels"


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        *(("log_uniform", 0.0001, 0.1), ("log_uniform", 0.5, 1.0)),
        *(("inv_log_uniform", 1e-5, 10.0), ("q_log_uniform", 16, 256)),
    ],
)
def test_bounds_that_are_not_exponents_cause_a_warning(name: str, low: float, high: float) -> None:
    spec = {"parameters": {"lr": with_range(name, low, high)}}
    (doubt,) = find_suspicious_bounds(with_parameter(spec), where=WHERE)
    assert doubt.startswith(f"{WHERE}.parameters.x.parameters.lr has the distribution {name}, whose min")
    assert doubt.endswith(f"For values from {low} to {high} use the distribution {name}_values")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        *(("log_uniform", low, high) for low, high in ((-9.2, -2.3), (0, 1), (0.5, 5.0))),
        *((name, 0.0001, 0.1) for name in ("log_uniform_values", "uniform")),
    ],
)
def test_plausible_bounds_cause_no_warning(name: str, low: float, high: float) -> None:
    assert not list(find_suspicious_bounds(with_parameter(with_range(name, low, high)), where=WHERE))
