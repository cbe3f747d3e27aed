"""Client filters and orders of runs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.store.filters import RunFacts, matches, read_filters, read_order, sort_by, sort_keys
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import RefusedError

NOTHING: dict[str, Any] = {each.name: None for each in fields(Run)}
KNOWN: dict[str, Any] = {
    "id": 1,
    "name": "r1",
    "state": RunState.FINISHED,
    "sweep_id": "s1",
    "display_name": "nice",
    "group_name": "g",
    "tags": '["a", "b"]',
    "config": '{"lr": {"value": 0.1}, "opt": {"value": {"m": 2}}}',
    "summary": '{"loss": 0.5, "val": {"acc": 1}, "bad": NaN}',
    "created_at": 1_700_000_000.0,
}
RUN = Run(**NOTHING | KNOWN)


FINDING: list[dict[str, Any]] = [
    {},
    {"sweep": "s1"},
    {"$and": [{"sweep": "s1"}, {"state": "finished"}]},
    {"$or": [{"state": "failed"}, {"displayName": "nice"}]},
    {"config.lr": 0.1},
    {"config.lr.value": {"$lt": 0.2}},
    {"config.opt.value.m": 2},
    {"config.opt.m": {"$gte": 2}},
    {"summary_metrics.loss": {"$gt": 0.4, "$lte": 0.5}},
    {"summary_metrics.val.acc": 1},
    {"summary_metrics.none": None},
    {"summary_metrics.none": {"$exists": False}},
    {"tags": "a"},
    {"tags": {"$in": ["b", "z"]}},
    {"tags": {"$nin": ["z"]}},
    {"state": {"$ne": "failed"}},
    {"name": {"$regex": "^r"}},
    {"createdAt": {"$gt": "2023-11-14T00:00:00"}},
    {"group": "g"},
    {"$not": {"state": "failed"}},
    {"state": {"$not": {"$eq": "failed"}}},
]
KEEPING_OUT: list[dict[str, Any]] = [
    {"sweep": "s2"},
    {"$and": [{"sweep": "s1"}, {"state": "failed"}]},
    {"$nor": [{"sweep": "s1"}]},
    {"config.lr": {"$gt": 0.2}},
    {"config.lr": {"$gt": "a"}},
    {"summary_metrics.bad": {"$gt": 0}},
    {"summary_metrics.none": {"$lt": 1}},
    {"tags": {"$nin": ["a"]}},
    {"name": {"$regex": "^x"}},
    {"createdAt": {"$lt": "2023-11-14T00:00:00Z"}},
]


@pytest.mark.parametrize(
    ("filters", "is_found"), [*((each, True) for each in FINDING), *((each, False) for each in KEEPING_OUT)]
)
def test_a_filter_matches_or_excludes_the_run(filters: dict[str, Any], is_found: bool) -> None:
    assert matches(RUN, filters) is is_found


@pytest.mark.parametrize(
    "filters",
    [{"what": 1}, {"name": {"$near": 1}}, {"$and": 1}, {"name": {"$regex": "("}}, {"tags": {"$in": 1}}],
)
def test_an_invalid_filter_is_refused(filters: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="filter"):
        matches(RUN, filters)


def test_a_pattern_with_catastrophic_backtracking_is_refused() -> None:
    run = replace(RUN, display_name="a" * 60 + "b")
    with pytest.raises(RefusedError, match="takes more than 1 s for one text"):
        matches(run, {"displayName": {"$regex": "^(a|a)*$"}})


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"$not": ' * 40 + "{}" + "}" * 40])
def test_filters_that_are_not_a_json_object_are_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="filters"):
        read_filters(text)


operators = ["$and", "$or", "$nor", "$not", "$eq", "$ne", "$gt", "$lte", "$in", "$nin", "$regex", "$exists"]
names = ["name", "tags", "createdAt", "config.lr", "summary_metrics.loss", "tags.a", "what", ""]
wild_filters = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*operators, *names]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*operators, *names]), wild_filters, max_size=3))
def test_any_filter_is_evaluated_or_refused(filters: dict[str, Any]) -> None:
    with suppress(RefusedError):
        assert matches(RUN, filters) in (True, False)


def sorted_runs(runs: list[Run], order: str | None) -> list[Run]:
    keys = read_order(order)
    return sort_by([(run, sort_keys(RunFacts(partial(getattr, run)), keys)) for run in runs], keys)


def with_losses(losses: list[Any]) -> list[Run]:
    return [replace(RUN, id=i, summary=json.dumps({"loss": loss})) for i, loss in enumerate(losses)]


@given(st.lists(st.none() | st.floats() | st.integers(), max_size=8), st.sampled_from("+-"))
def test_missing_and_nan_values_sort_last_in_both_directions(losses: list[Any], sign: str) -> None:
    ordered = [
        json.loads(run.summary)["loss"]
        for run in sorted_runs(with_losses(losses), f"{sign}summary_metrics.loss")
    ]
    known = [loss for loss in losses if loss is not None and loss == loss]
    assert ordered[: len(known)] == sorted(known, reverse=sign == "-")


def test_runs_are_sorted_by_the_relevant_value_of_a_summarized_metric() -> None:
    """The client requests descending order to maximize."""
    runs = with_losses(
        [{"min": 2.0, "max": 8.0}, {"min": 1.0, "max": 9.0}, {"mean": 5.0}, {"a": 0, "b": 0}, 7.0]
    )
    assert [run.id for run in sorted_runs(runs, "+summary_metrics.loss")] == [1, 0, 2, 4, 3]
    assert [run.id for run in sorted_runs(runs, "-summary_metrics.loss")] == [1, 0, 4, 2, 3]


def test_runs_are_sorted_newest_first_by_default_and_a_second_key_breaks_ties() -> None:
    runs = [
        replace(RUN, id=i, name=name, created_at=created)
        for i, (name, created) in enumerate([("a", 1.0), ("a", 2.0), ("b", 3.0), ("b", 4.0)])
    ]
    for order, ids in (
        (None, [3, 2, 1, 0]),
        ("+created_at", [0, 1, 2, 3]),
        ("-name,+created_at", [2, 3, 0, 1]),
    ):
        assert [run.id for run in sorted_runs(runs, order)] == ids
