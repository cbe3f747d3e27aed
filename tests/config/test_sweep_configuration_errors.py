"""Error messages of invalid sweep configurations."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from parallel_hpo.config.sweep import find_suspicious_bounds, parse_sweep_configuration
from parallel_hpo.core.errors import ConfigError

WHERE = "hpo.sweep_configuration"
A_METRIC = 'an object such as {"name": "loss", "goal": "minimize"}'
A_PARAMETER = 'allowed: an object such as {"value": 3}, {"values": [3, 5]} or {"min": 0.1, "max": 1.0}'
A_LEVEL = "an object with at least one parameter"
A_NUMBER = "allowed: a number"
NO_TEXT = ", not text (no quotes; YAML needs 1.0e-4 where JSON has 1e-4)"
NATIVE = "allowed: what JSON can hold: null, true, false, finite numbers, strings, lists, objects"
ODDS = "categorical_w_probabilities"


def with_parameter(spec: object, *, method: str = "random") -> dict[str, Any]:
    return {"method": method, "parameters": {"x": spec}}


def with_keys(**keys: object) -> dict[str, Any]:
    return {"method": "random", "parameters": {"x": {"value": 1}}, **keys}


def with_hyperband(**keys: object) -> dict[str, Any]:
    return with_keys(metric={"name": "l"}, early_terminate={"type": "hyperband", **keys})


def error_of(config: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_sweep_configuration(config, where=WHERE)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], " is []; allowed: a W&B sweep configuration, with method and parameters"),
        ({"parameters": {"x": {"value": 1}}}, ".method is missing; needed: one of grid, random, bayes"),
        (
            with_keys(method="gird"),
            ".method is \"gird\"; allowed: grid, random, bayes (did you mean 'grid'?)",
        ),
        (with_keys(method=3), ".method is 3; allowed: grid, random, bayes"),
        (
            with_keys(method="custom"),
            (
                '.method is "custom": such a sweep\'s runs come from a `wandb sweep-scheduler` of your own,'
                " which is not run here; allowed: grid, random, bayes"
            ),
        ),
        (with_keys(method="bayes"), f".metric is missing; needed: for method bayes, {A_METRIC}"),
        (with_keys(metric="loss"), f'.metric is "loss"; allowed: {A_METRIC}'),
        (with_keys(metric={}), ".metric.name is missing; needed: the name of a metric that the runs log"),
        (with_keys(metric={"name": ""}), '.metric.name is ""; allowed: a non-empty string'),
        (
            with_keys(metric={"name": "l", "goal": "maximise"}),
            ".metric.goal is \"maximise\"; allowed: minimize, maximize (did you mean 'maximize'?)",
        ),
        (
            with_keys(metric={"name": "l", "gaol": "maximize"}),
            (
                ".metric.gaol: unknown key; did you mean 'goal'?"
                " known: name, goal, target, impute, impute_while_running"
            ),
        ),
        (with_keys(metric={"name": "l", "target": "1"}), f'.metric.target is "1"; {A_NUMBER}{NO_TEXT}'),
        (
            with_keys(metric={"name": "l", "impute": "mean"}),
            '.metric.impute is "mean"; allowed: latest, best, worst',
        ),
        (with_keys(run_cap=0), ".run_cap is 0; allowed: a whole number of 1 or more"),
        (with_keys(run_cap=True), ".run_cap is true; allowed: a whole number of 1 or more"),
        (with_keys(run_cap=2.0), ".run_cap is 2.0; allowed: a whole number of 1 or more"),
        (
            with_keys(early_terminate={"type": "hyperband", "min_iter": 1}),
            ".early_terminate needs a metric to judge runs by; add `metric` beside it",
        ),
        (
            with_keys(metric={"name": "l"}, early_terminate={"type": "envelope"}),
            '.early_terminate.type is "envelope"; allowed: hyperband',
        ),
        (
            with_hyperband(max_iter=9),
            ".early_terminate.min_iter is missing; needed: min_iter, or both max_iter and s",
        ),
        (with_hyperband(min_iter=0), ".early_terminate.min_iter is 0; allowed: a whole number of 1 or more"),
        (with_hyperband(min_iter=1, eta=1), ".early_terminate.eta is 1; allowed: a number above 1"),
        (with_hyperband(min_iter=1, strict=1), ".early_terminate.strict is 1; allowed: true or false"),
        ({"method": "grid"}, ".parameters is missing; needed: an object with at least one parameter"),
        (with_keys(parameters={}), f".parameters is {{}}; allowed: {A_LEVEL}"),
        (with_keys(parameters=[1]), f".parameters is [1]; allowed: {A_LEVEL}"),
        (
            with_keys(parameters={1: {"value": 1}}),
            ".parameters has the key 1; allowed: keys that are non-empty strings",
        ),
    ],
)
def test_an_invalid_sweep_is_a_one_line_error(config: Any, message: str) -> None:
    assert error_of(config) == WHERE + message


def test_an_unknown_key_is_reported_with_the_nearest_known_one() -> None:
    message = error_of(with_keys(paramters={}))
    assert message.startswith(f"{WHERE}.paramters: unknown key; did you mean 'parameters'? known: method, ")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (0.1, f" is 0.1; {A_PARAMETER}"),
        ({}, f" is {{}}; {A_PARAMETER}"),
        ({"parameters": {}}, f".parameters is {{}}; allowed: {A_LEVEL}"),
        (
            {"parameters": {"y": {"min": 1}}},
            ".parameters.y.max is missing; needed: both min and max, for a range",
        ),
        ({"parameters": {"y": {"value": 1}}, "value": 1}, ".value: unknown key; known: parameters"),
        ({"value": 1, "values": [1]}, ".values doesn't go with distribution constant, which takes value"),
        ({"value": math.nan}, f".value is NaN; {NATIVE}"),
        ({"values": [1, [math.inf]]}, f".values[1][0] is Infinity; {NATIVE}"),
        (
            {"value": {"day": datetime.date(2024, 1, 2)}},
            f'.value.day is "datetime.date(2024, 1, 2)"; {NATIVE}',
        ),
        ({"value": {3: 4}}, ".value has the key 3; allowed: keys that are non-empty strings"),
        ({"values": []}, ".values is []; allowed: a list of at least one value"),
        ({"values": "abc"}, '.values is "abc"; allowed: a list of at least one value'),
        (
            {"values": [1, 2], "probabilities": [1]},
            ".probabilities is [1]; allowed: a list of 2 numbers, one for each of `values`",
        ),
        (
            {"values": [1, 2], "probabilities": [0.5, 0.6]},
            ".probabilities is [0.5, 0.6]; allowed: numbers whose sum is 1 (it is 1.1)",
        ),
        (
            {"values": [1, 2], "probabilities": [1.5, -0.5]},
            ".probabilities is [1.5, -0.5]; allowed: numbers of 0 or more",
        ),
        ({"values": [1], "probabilities": ["1"]}, f'.probabilities[0] is "1"; {A_NUMBER}{NO_TEXT}'),
        (
            {"distribution": ODDS, "values": [1]},
            f".probabilities is missing; needed: values and probabilities, for distribution {ODDS}",
        ),
        (
            {"min": 5, "max": 1},
            '.min is 5; allowed: less than max, which is 1 (a fixed number: {"value": …})',
        ),
        (
            {"min": 5, "max": 5},
            '.min is 5; allowed: less than max, which is 5 (a fixed number: {"value": …})',
        ),
        ({"max": 5}, ".min is missing; needed: both min and max, for a range"),
        ({"min": True, "max": 5}, f".min is true; {A_NUMBER}"),
        ({"min": "1e-4", "max": 1.0}, f'.min is "1e-4"; {A_NUMBER}{NO_TEXT}'),
        (
            {"min": 0, "max": 2**60},
            ".max is 1152921504606846976; allowed: a whole number between ±2^53, which JSON carries exactly",
        ),
        ({"distribution": "int_uniform", "min": 1.5, "max": 5}, ".min is 1.5; allowed: a whole number"),
        (
            {"distribution": "uniform", "min": 1},
            ".max is missing; needed: min and max, for distribution uniform",
        ),
        ({"distribution": "uniform", "min": -math.inf, "max": 1}, f".min is -Infinity; {A_NUMBER}"),
        (
            {"distribution": "uniform", "min": 1, "max": 2, "q": 1},
            ".q doesn't go with distribution uniform, which takes min and max",
        ),
        ({"distribution": "q_uniform", "min": 1, "max": 2, "q": 0}, ".q is 0; allowed: a number above 0"),
        (
            {"distribution": "q_uniform", "min": 0, "max": 2**60, "q": 1},
            ".q is 1; allowed: a step of at least 128, since floats have no finer resolution here",
        ),
        ({"distribution": "q_normal", "q": -1}, ".q is -1; allowed: a number above 0"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 2}, ".min is 0; allowed: a number above 0"),
        (
            {"distribution": "log_uniform", "min": 1, "max": 4096},
            (
                ".max is 4096; allowed: an exponent of e between ±700"
                " (for bounds that are values: log_uniform_values)"
            ),
        ),
        ({"distribution": "normal", "sigma": 0}, ".sigma is 0; allowed: a number above 0"),
        (
            {"distribution": "normal", "min": 0},
            ".min doesn't go with distribution normal, which takes mu and sigma",
        ),
        ({"distribution": "beta", "a": 0}, ".a is 0; allowed: a number above 0"),
    ],
)
def test_an_invalid_parameter_is_a_one_line_error(spec: object, message: str) -> None:
    assert error_of(with_parameter(spec)) == f"{WHERE}.parameters.x{message}"


def test_an_unknown_distribution_is_reported_with_the_nearest_one() -> None:
    message = error_of(with_parameter({"distribution": "log_unifrom", "min": 1, "max": 2}))
    assert message.startswith(
        f'{WHERE}.parameters.x.distribution is "log_unifrom"; allowed: constant, categorical, '
    )
    assert message.endswith("beta, q_beta (did you mean 'log_uniform'?)")


def test_mu_and_sigma_alone_are_no_distribution() -> None:
    message = error_of(with_parameter({"mu": 0, "sigma": 1}))
    assert message.startswith(
        f"{WHERE}.parameters.x.distribution is missing; needed: beside mu and sigma, one of "
    )


def test_a_misspelt_key_of_a_parameter_is_reported_with_the_nearest_one() -> None:
    message = error_of(with_parameter({"valeus": [1, 2]}))
    assert message.startswith(f"{WHERE}.parameters.x.valeus: unknown key; did you mean 'values'? known: ")


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
    ("name", "meant"),
    [
        ("loguniform", "log_uniform_values"),
        ("LogUniform", "log_uniform_values"),
        ("q-log-uniform", "q_log_uniform_values"),
    ],
)
def test_loguniform_suggests_log_uniform_values(name: str, meant: str) -> None:
    message = error_of(with_parameter({"distribution": name, "min": 1e-4, "max": 0.1}))
    assert message.startswith(f'{WHERE}.parameters.x.distribution is "{name}"; allowed: constant, ')
    assert message.endswith(f"(did you mean '{meant}'?)")


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [
        ("log_uniform", 0.0001, 0.1),
        ("log_uniform", 0.5, 1.0),
        ("inv_log_uniform", 1e-5, 10.0),
        ("q_log_uniform", 16, 256),
    ],
)
def test_bounds_that_are_not_exponents_cause_a_warning(distribution: str, low: float, high: float) -> None:
    spec = {"distribution": distribution, "min": low, "max": high}
    (doubt,) = find_suspicious_bounds(with_parameter({"parameters": {"lr": spec}}), where=WHERE)
    assert doubt.startswith(
        f"{WHERE}.parameters.x.parameters.lr has the distribution {distribution}, whose min"
    )
    assert doubt.endswith(f"For values from {low} to {high} use the distribution {distribution}_values")


@pytest.mark.parametrize(
    ("distribution", "low", "high"),
    [
        ("log_uniform", -9.2, -2.3),
        ("log_uniform", 0, 1),
        ("log_uniform", 0.5, 5.0),
        ("log_uniform_values", 0.0001, 0.1),
        ("uniform", 0.0001, 0.1),
    ],
)
def test_plausible_bounds_cause_no_warning(distribution: str, low: float, high: float) -> None:
    spec = {"distribution": distribution, "min": low, "max": high}
    assert not list(find_suspicious_bounds(with_parameter(spec), where=WHERE))
