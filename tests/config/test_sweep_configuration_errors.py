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
A_COUNT = "allowed: a whole number of 1 or more"
NO_TEXT = ", not text (no quotes; YAML needs 1.0e-4 where JSON has 1e-4)"
NATIVE = "allowed: what JSON can hold: null, true, false, finite numbers, strings, lists, objects"
FIRST_KNOWN = "constant, categorical, categorical_w_probabilities, "
ODDS = "categorical_w_probabilities"


def with_parameter(spec: object, *, method: str = "random") -> dict[str, Any]:
    return {"method": method, "parameters": {"x": spec}}


def with_keys(**keys: object) -> dict[str, Any]:
    return {"method": "random", "parameters": {"x": {"value": 1}}, **keys}


def with_metric(**keys: object) -> dict[str, Any]:
    return with_keys(metric={"name": "l", **keys})


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
            with_metric(goal="maximise"),
            ".metric.goal is \"maximise\"; allowed: minimize, maximize (did you mean 'maximize'?)",
        ),
        (
            with_metric(gaol="maximize"),
            (
                ".metric.gaol: unknown key; did you mean 'goal'?"
                " known: name, goal, target, impute, impute_while_running"
            ),
        ),
        (with_metric(target="1"), f'.metric.target is "1"; {A_NUMBER}{NO_TEXT}'),
        (with_metric(impute="mean"), '.metric.impute is "mean"; allowed: latest, best, worst'),
        (with_keys(run_cap=0), f".run_cap is 0; {A_COUNT}"),
        (with_keys(run_cap=True), f".run_cap is true; {A_COUNT}"),
        (with_keys(run_cap=2.0), f".run_cap is 2.0; {A_COUNT}"),
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
        (with_hyperband(min_iter=0), f".early_terminate.min_iter is 0; {A_COUNT}"),
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


@pytest.mark.parametrize(
    ("config", "begins", "ends"),
    [
        (with_keys(paramters={}), ".paramters: unknown key; did you mean 'parameters'? known: method, ", ""),
        (
            with_parameter({"valeus": [1, 2]}),
            ".parameters.x.valeus: unknown key; did you mean 'values'? known: ",
            "",
        ),
        (
            with_parameter({"mu": 0, "sigma": 1}),
            ".parameters.x.distribution is missing; needed: beside mu and sigma, one of ",
            "",
        ),
        *(
            (
                with_parameter({"distribution": name, "min": 1e-4, "max": 0.1}),
                f'.parameters.x.distribution is "{name}"; allowed: {FIRST_KNOWN}',
                f"beta, q_beta (did you mean '{meant}'?)",
            )
            for name, meant in (
                ("log_unifrom", "log_uniform"),
                ("loguniform", "log_uniform_values"),
                ("LogUniform", "log_uniform_values"),
                ("q-log-uniform", "q_log_uniform_values"),
            )
        ),
    ],
)
def test_an_unknown_word_is_reported_with_the_nearest_and_all_known_ones(
    config: dict[str, Any], begins: str, ends: str
) -> None:
    message = error_of(config)
    assert message.startswith(WHERE + begins)
    assert message.endswith(ends)


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


SUSPICIOUS = [
    ("log_uniform", 0.0001, 0.1),
    ("log_uniform", 0.5, 1.0),
    ("inv_log_uniform", 1e-5, 10.0),
    ("q_log_uniform", 16, 256),
]
PLAUSIBLE = [
    *(("log_uniform", low, high) for low, high in ((-9.2, -2.3), (0, 1), (0.5, 5.0))),
    *((name, 0.0001, 0.1) for name in ("log_uniform_values", "uniform")),
]


@pytest.mark.parametrize(("name", "low", "high"), SUSPICIOUS)
def test_bounds_that_are_not_exponents_cause_a_warning(name: str, low: float, high: float) -> None:
    spec = {"distribution": name, "min": low, "max": high}
    (doubt,) = find_suspicious_bounds(with_parameter({"parameters": {"lr": spec}}), where=WHERE)
    assert doubt.startswith(f"{WHERE}.parameters.x.parameters.lr has the distribution {name}, whose min")
    assert doubt.endswith(f"For values from {low} to {high} use the distribution {name}_values")


@pytest.mark.parametrize(("name", "low", "high"), PLAUSIBLE)
def test_plausible_bounds_cause_no_warning(name: str, low: float, high: float) -> None:
    spec = {"distribution": name, "min": low, "max": high}
    assert not list(find_suspicious_bounds(with_parameter(spec), where=WHERE))
