from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.values import find_value, statistic, values_so_far

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b", "min", "last"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("summary", "metric"),
    [
        ({"loss": 0.5}, "loss"),
        ({"val": {"loss": 0.5}}, "val.loss"),
        ({"val": {"a": {"loss": 0.5}}}, "val.a.loss"),
        ({"val.loss": 0.5, "val": {"loss": 9.0}}, "val.loss"),
        ({"val": {"loss": {"min": 0.5}}}, "val.loss"),
        ({"loss": {"max": 9.0, "min": 0.5}}, "loss.min"),
        ({"val/loss": 0.5}, "val/loss"),
    ],
)
def test_a_metric_is_found_by_its_name_or_its_path(summary: dict[str, Any], metric: str) -> None:
    assert find_value(summary, metric, "minimize") == 0.5


def test_an_integer_becomes_a_float() -> None:
    value = find_value({"epochs": 3}, "epochs", "maximize")
    assert value == 3.0
    assert isinstance(value, float)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, "0.5", "NaN", math.nan, math.inf, -math.inf, [0.5], {}, {"_type": 1.0}),
        *({"max": "x"}, {"max": "NaN", "last": 1.0}, {"max": {"last": 1.0}}, {"a": 1.0, "b": 2.0}),
        pytest.param(10**400, id="10**400"),
    ],
)
def test_a_metric_that_is_not_a_finite_number_has_no_value(value: object) -> None:
    assert find_value({"loss": value}, "loss", "maximize") is None


@pytest.mark.parametrize("metric", ["acc", "loss.min", "", "."])
def test_a_missing_metric_has_no_value(metric: str) -> None:
    assert find_value({"loss": 0.5}, metric, "minimize") is None


@pytest.mark.parametrize(
    ("summary", "goal", "counts"),
    [
        ({"min": 1.0, "max": 2.0}, "minimize", "min"),
        ({"min": 1.0, "max": 2.0}, "maximize", "max"),
        ({"best": 4.0, "mean": 5.0, "last": 3.0}, "minimize", "best"),
        ({"last": 3.0, "mean": 5.0, "max": 6.0}, "minimize", "mean"),
        ({"last": 3.0, "first": 5.0}, "maximize", "last"),
        ({"mean": 5.0}, "maximize", "mean"),
        ({"min": 1.0}, "maximize", "min"),
        ({"first": 7.0}, "minimize", "first"),
    ],
)
def test_the_statistic_of_a_summary_that_fits_the_goal_is_preferred(
    summary: dict[str, float], goal: str, counts: str
) -> None:
    assert find_value({"loss": summary}, "loss", goal) == summary[counts]
    assert statistic({"loss": summary}, "loss", goal) == counts


@pytest.mark.parametrize("summary", [{}, {"loss": 1.0}, {"loss": None}, {"loss": {"a": 1.0, "b": 2.0}}])
def test_the_last_value_counts_by_default(summary: dict[str, Any]) -> None:
    assert statistic(summary, "loss", "minimize") == "last"


LOGGED = [3.0, 1.0, 2.0, 6.0]


@pytest.mark.parametrize(
    ("counted", "goal", "values"),
    [
        ("last", "minimize", LOGGED),
        ("min", "maximize", [3.0, 1.0, 1.0, 1.0]),
        ("max", "minimize", [3.0, 3.0, 3.0, 6.0]),
        ("best", "minimize", [3.0, 1.0, 1.0, 1.0]),
        ("best", "maximize", [3.0, 3.0, 3.0, 6.0]),
        ("mean", "minimize", [3.0, 2.0, 2.0, 3.0]),
        ("first", "minimize", [3.0, 3.0, 3.0, 3.0]),
    ],
)
@pytest.mark.parametrize("cut", range(len(LOGGED)))
def test_values_so_far_match_the_summary_statistic_for_any_split_of_the_rows(
    counted: str, goal: str, values: list[float], cut: int
) -> None:
    before = list(values_so_far(LOGGED[:cut], counted, goal))
    known = before[-1] if before else None
    assert [*before, *values_so_far(LOGGED[cut:], counted, goal, rows=cut, value=known)] == values


def test_a_restarted_history_ignores_the_previous_value() -> None:
    assert list(values_so_far([5.0], "min", "minimize", rows=0, value=1.0)) == [5.0]


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON), st.sampled_from(["a", "b", "a.b", "b.a.b"]))
def test_the_value_of_any_summary_is_finite_or_none(summary: dict[str, Any], metric: str) -> None:
    value = find_value(summary, metric, "minimize")
    assert value is None or math.isfinite(value)
