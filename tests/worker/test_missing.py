from __future__ import annotations

import math

import pytest

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.worker.run import explain_missing


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing"),
        (math.nan, "NaN"),
        ("NaN", "NaN"),
        (-math.inf, "-infinity"),
        ("Infinity", "infinity"),
        (True, "a boolean, true"),
        ("0.5", "a text, '0.5'"),
        ([0.5], "a list"),
        ({"_type": "histogram"}, "an object of type histogram"),
        ({"a": 1.0, "b": 2.0}, "a table of values"),
        ({}, "nothing"),
        ({"min": "NaN", "max": 2.0}, "NaN"),
        pytest.param(10**400, "a number that is too large", id="10**400"),
    ],
)
def test_a_missing_metric_names_what_was_logged_instead(value: object, found: str) -> None:
    explained = explain_missing({"loss": value}, "loss", "minimize")
    assert explained is not None
    assert explained.found == found


def test_a_number_is_no_missing_metric() -> None:
    assert explain_missing({"val": {"loss": 0.5}}, "val.loss", "minimize") is None


def test_a_missing_metric_lists_logged_names_without_the_clients_own() -> None:
    summary = {"val": {"loss": 0.5, "acc": {"top1": 1}}, "_step": 3, "_wandb": {"runtime": 1}, "x": 1}
    assert explain_missing(summary, "loss", "minimize") == MissingMetric(
        "nothing", ("val.acc.top1", "val.loss", "x")
    )
