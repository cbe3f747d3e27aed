"""Random parameters: within bounds, of the right type and shape, and repeatable."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Continuous,
    Distribution,
    IntUniform,
    LogNormal,
    LogUniform,
    Normal,
    Parameter,
    Uniform,
)
from parallel_hpo.server.search.sampling import RandomEngine, draw, quantile_of, stream, value_at

steps = st.none() | st.integers(1, 5) | st.floats(0.01, 5)
bounds = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
positive = st.tuples(st.floats(1e-9, 1e6), st.floats(1.001, 1e6)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)
seeds = st.integers(0, 2**32)
uniforms = st.builds(lambda pair, q: Uniform(pair[0], pair[1], q), bounds, steps)
log_uniforms = st.builds(lambda pair, q: LogUniform(pair[0], pair[1], q), positive, steps)
normals = st.builds(Normal, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), steps)
log_normals = st.builds(LogNormal, st.floats(-700, 700), st.floats(1e-3, 1e3), steps)
betas = st.builds(Beta, st.floats(0.01, 50), st.floats(0.01, 50), steps)
continuous = uniforms | log_uniforms | normals | log_normals | betas

SPACE = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1.0},
    "net": {"parameters": {"depth": {"min": 1, "max": 8}, "bias": {"values": [True, False]}}},
    "dropout": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1},
}


def engine(seed: int, parameters: dict[str, Any] = SPACE) -> RandomEngine:
    configuration = {"method": "random", "parameters": parameters}
    return RandomEngine(parse_sweep_configuration(configuration, where="sweep").parameters, seed=seed)


def one(distribution: Distribution, source: Random) -> Any:
    return draw([Parameter(("x",), distribution)], source)[("x",)]


def many(distribution: Distribution) -> list[float]:
    source = Random(0)
    return [one(distribution, source) for _ in range(4000)]


@given(uniforms | log_uniforms, seeds)
def test_a_range_is_never_left_by_more_than_half_a_step(range_: Uniform | LogUniform, seed: int) -> None:
    value = one(range_, Random(seed))
    slack = (range_.q or 0) / 2 * (1 + 1e-9)
    assert range_.min - slack <= value <= range_.max + slack


@given(continuous, seeds)
def test_every_value_is_finite_and_reads_back_from_json(distribution: Continuous, seed: int) -> None:
    value = one(distribution, Random(seed))
    assert math.isfinite(value)
    assert json.loads(json.dumps(value)) == value


@given(continuous, seeds)
def test_a_whole_step_gives_whole_numbers(distribution: Continuous, seed: int) -> None:
    value = one(distribution, Random(seed))
    if abs(value) < 2**53 and distribution.q is not None:
        assert isinstance(value, type(distribution.q))
        assert math.isclose(value / distribution.q, round(value / distribution.q), abs_tol=1e-6)


@given(st.integers(-(2**53), 2**53), st.integers(1, 2**53), seeds)
def test_integers_stay_within_their_bounds(low: int, width: int, seed: int) -> None:
    value = one(IntUniform(low, low + width), Random(seed))
    assert isinstance(value, int)
    assert low <= value <= low + width


@given(uniforms | log_uniforms | normals, st.floats(0.001, 0.999))
def test_a_value_is_found_at_the_place_it_was_taken_from(distribution: Continuous, quantile: float) -> None:
    if distribution.q is None:
        assert quantile_of(distribution, value_at(distribution, quantile)) == pytest.approx(
            quantile, abs=1e-4
        )


@given(continuous, st.floats(allow_nan=False))
def test_every_number_has_a_place_from_0_to_1(distribution: Continuous, value: float) -> None:
    assert 0 <= quantile_of(distribution, value) <= 1


@pytest.mark.parametrize(
    "distribution", [Normal(0, 1), LogNormal(0, 1), Uniform(0, 1), LogUniform(1, 2), Beta(1, 1)]
)
def test_the_ends_have_finite_values(distribution: Continuous) -> None:
    assert math.isfinite(value_at(distribution, 0))
    assert math.isfinite(value_at(distribution, 1))


@pytest.mark.parametrize(
    ("distribution", "median", "spread"),
    [
        (Uniform(2, 4), 3.0, 0.05),
        (LogUniform(1e-4, 1.0), 1e-2, 2e-3),
        (Normal(5, 2), 5.0, 0.1),
        (LogNormal(1, 0.5), math.e, 0.1),
        (Beta(2, 2), 0.5, 0.02),
    ],
)
def test_half_of_the_values_lie_below_the_median(
    distribution: Continuous, median: float, spread: float
) -> None:
    assert statistics.median(many(distribution)) == pytest.approx(median, abs=spread)


def test_a_log_normal_has_its_spread_in_the_exponent() -> None:
    logs = [math.log(value) for value in many(LogNormal(1, 0.5))]
    assert statistics.stdev(logs) == pytest.approx(0.5, abs=0.03)


def test_probabilities_are_kept() -> None:
    counts = Counter(many(Categorical((1, 2, 3), (0.7, 0.3, 0.0))))
    assert counts[1] / 4000 == pytest.approx(0.7, abs=0.03)
    assert counts[3] == 0


@given(seeds, st.integers(0, 10**9))
def test_a_runs_parameters_follow_from_seed_and_index(seed: int, index: int) -> None:
    asked = engine(seed).ask(index)
    assert engine(seed).ask(index) == asked
    assert json.loads(json.dumps(asked)) == asked


def test_another_process_draws_the_same() -> None:
    code = "from parallel_hpo.server.search.sampling import stream; print(stream(7, 3).random())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(answer.stdout) == stream(7, 3).random()


def test_other_indices_and_other_seeds_draw_otherwise() -> None:
    draws = [engine(seed).ask(index)["lr"] for seed in range(10) for index in range(50)]
    assert len(set(draws)) == 500


def test_the_order_in_which_parameters_were_written_does_not_matter() -> None:
    backwards = dict(reversed(SPACE.items()))
    assert engine(1, backwards).ask(5) == engine(1).ask(5)
