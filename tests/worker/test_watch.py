from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.worker.watch import find_value

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
        None,
        True,
        "0.5",
        "NaN",
        math.nan,
        math.inf,
        -math.inf,
        [0.5],
        {},
        {"max": "x"},
        pytest.param(10**400, id="10**400"),
    ],
)
def test_what_is_no_finite_number_is_no_value(value: object) -> None:
    assert find_value({"loss": value}, "loss", "maximize") is None


@pytest.mark.parametrize("metric", ["acc", "loss.min", "", "."])
def test_a_metric_that_is_not_there_has_no_value(metric: str) -> None:
    assert find_value({"loss": 0.5}, metric, "minimize") is None


@pytest.mark.parametrize(
    ("summary", "goal", "value"),
    [
        ({"min": 1.0, "max": 2.0, "last": 3.0}, "minimize", 1.0),
        ({"min": 1.0, "max": 2.0, "last": 3.0}, "maximize", 2.0),
        ({"best": 4.0, "last": 3.0}, "minimize", 4.0),
        ({"last": 3.0, "mean": 5.0}, "maximize", 3.0),
        ({"mean": 5.0}, "maximize", None),
    ],
)
def test_of_a_summarised_metric_the_goals_counts_first(
    summary: dict[str, float], goal: str, value: float | None
) -> None:
    assert find_value({"loss": summary}, "loss", goal) == value


@given(st.dictionaries(st.sampled_from(["a", "b", "a.b"]), JSON), st.sampled_from(["a", "b", "a.b", "b.a.b"]))
def test_whatever_a_summary_holds_the_value_is_finite_or_none(summary: dict[str, Any], metric: str) -> None:
    value = find_value(summary, metric, "minimize")
    assert value is None or math.isfinite(value)
