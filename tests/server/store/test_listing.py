"""The database's results for filters and orders match those of `filters` run by run."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event as sa_event
from sqlalchemy import select

from parallel_hpo.server.store import listing, runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.filters import RunFacts, matches, read_order, sort_by, sort_keys
from parallel_hpo.server.store.listing import RunQuery
from parallel_hpo.server.store.tables import insert_one, projects
from parallel_hpo.server.store.tables import runs as table
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import START, Services

KEYS = ("loss", "lr", "a", "b", "a.b", "value", "train/loss", "ü", 'q"', "back\\slash", "a b", "")
TEXTS = ("", "x", "adam", "NaN", "lr:NaN", '": NaN', "ü", "\\", '"', "\n", "\0", "\ud800", "1", "\u0001NaN")
numbers = st.sampled_from([0, 1, -1, 0.1, 1e300, 2**53 + 1, 10**30, True, False]) | st.floats()
scalars = st.none() | numbers | st.sampled_from(TEXTS)
values = (
    scalars
    | st.lists(scalars, max_size=2)
    | st.dictionaries(
        st.sampled_from(KEYS), scalars | st.dictionaries(st.sampled_from(KEYS), scalars), max_size=3
    )
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=5)


@st.composite
def documents(draw: st.DrawFn, wrapped: bool = False) -> str:
    """Return JSON as Python's or Go's encoder writes it, of a configuration if `wrapped`."""
    value: dict[str, Any] = draw(objects)
    if wrapped:
        value = {key: {"value": item} if draw(st.booleans()) else item for key, item in value.items()}
    separators = draw(st.sampled_from([None, (",", ":")]))
    text = json.dumps(value, ensure_ascii=False, separators=separators)
    if draw(st.booleans()) or "\ud800" in text:
        return json.dumps(value, separators=separators)
    return text


nothing_or_text = st.none() | st.sampled_from(["", "x", "ü", "Z", "z"])
rows = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["finished", "failed", "running"]),
        "display_name": nothing_or_text,
        "group_name": nothing_or_text,
        "created_at": st.sampled_from([START, START + 0.5, START + 1]),
        "heard_at": st.just(START),
        "tags": st.lists(st.sampled_from(["a", "A", '"a', "ü", "%"]), max_size=2).map(json.dumps),
        "config": documents(wrapped=True),
        "summary": documents(),
    }
)
columns = ["name", "state", "displayName", "group", "notes", "tags", "tags.a", "createdAt", "heartbeatAt"]
keys = [*KEYS, "a.value", "a.value.b", "a.a.b", "loss.value", "value.value"]
names = st.sampled_from(
    [*columns * 4, *(f"{section}.{key}" for section in ("config", "summary_metrics") for key in keys)]
)
operands = st.sampled_from(["a", "finished", "Z", START, "1970-01-12T13:46:40"]) | values
operators = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), operands, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(operands, max_size=3), min_size=1, max_size=1),
    st.dictionaries(st.just("$exists"), st.booleans(), min_size=1, max_size=1),
    st.dictionaries(st.just("$regex"), st.sampled_from(["^x", "a", "(", "ü|z"]), min_size=1, max_size=1),
    st.dictionaries(st.just("$not"), st.dictionaries(st.just("$eq"), operands), min_size=1, max_size=1),
)
clauses = st.dictionaries(names, operands | operators, max_size=2)
filters = st.recursive(
    clauses,
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, max_size=3), min_size=1, max_size=1
        )
        | st.dictionaries(st.just("$not"), inner, min_size=1, max_size=1)
    ),
    max_leaves=3,
)
orders = st.lists(st.builds("{}{}".format, st.sampled_from(["+", "-", ""]), names), max_size=2).map(",".join)


class Inventory:
    """A project with some runs, in a transaction that is rolled back."""

    def __init__(self, transaction: Transaction, rows: list[dict[str, Any]]) -> None:
        self._transaction = transaction
        project = {"entity": "e", "name": "p", "created_at": START}
        self.project_id = insert_one(transaction, projects, project)
        for number, row in enumerate(rows):
            runs.create(transaction, {"project_id": self.project_id, "name": f"r{number}", **row})

    def expected(self, filters: dict[str, Any], order: str) -> list[int]:
        """Filter and sort complete runs."""
        query = select(table.c.id).where(table.c.project_id == self.project_id)
        ids = self._transaction.scalars(query.order_by(table.c.id)).all()
        found = [run for run in runs.with_ids(self._transaction, ids) if run is not None]
        keys = read_order(order)
        return sort_by(
            [
                (run.id, sort_keys(RunFacts(partial(getattr, run)), keys))
                for run in found
                if matches(run, filters)
            ],
            keys,
        )

    def listed(self, filters: dict[str, Any], order: str) -> list[int]:
        """List the runs as one page of all of them does."""
        query, keys = RunQuery(self.project_id, filters), read_order(order)
        found = listing.page_ids(self._transaction, query, keys, 0, 100)
        event("by SQL alone" if found is not None else "filtered run by run")
        if found is None:
            return listing.all_ids(self._transaction, query, keys, lambda: None)
        if filters:
            assert listing.count_in_sql(self._transaction, query) == len(found)
        return found


@pytest.mark.parametrize("filters", [{}, {"sweep": "s"}])
def test_a_page_is_read_from_an_index(tmp_path: Path, filters: dict[str, Any]) -> None:
    with closing(Services(tmp_path)) as services, services.world.database.read() as transaction:
        asked: list[tuple[str, Any]] = []
        sa_event.listen(
            transaction, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])), named=False
        )
        listing.page_ids(transaction, RunQuery(1, filters), read_order(None), 0, 50)
        statement, values = asked[-1]
        plan = transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
    assert "_created" in plan[0].detail
    assert "USING COVERING INDEX" in plan[0].detail or filters


class RollBackError(Exception):
    """Raised to roll the transaction back."""


SPARSE: list[dict[str, Any]] = [
    {"group_name": group, "display_name": display, "tags": json.dumps(tags)}
    for group, display, tags in [(None, "", ["x"]), ("g", None, ['"a']), ("G", "r0", ["a"]), (None, "z", [])]
]
for number, row in enumerate(SPARSE):
    row |= {"state": "running", "created_at": START + number // 2, "heard_at": START}


NESTED = [
    row
    | {
        "config": json.dumps({"opt": {"value": {"m": number}}, "a.b": {"value": number}}),
        "summary": json.dumps({"val": {"acc": -number}}),
    }
    for number, row in enumerate(SPARSE)
]


ODD = [
    {"state": "running", "created_at": START, "heard_at": START, "summary": summary}
    for summary in (
        '{"loss": 0.1, "more": "\\"\\n\\\\ü"}',
        '{"loss":NaN,"other":-Infinity,"more":[1]}',
        '{"loss": {"min": 3, "max": Infinity}}',
        '{"\\u006coss": 1, "train\\/loss": 1}',
        '{"loss": 2, "text": "a:NaN", "bad": NaN}',
        '{"loss": 12345678901234567890.5, "q\\"": 1}',
        "{}",
    )
]


@example(ODD, {"summary_metrics.loss": {"$gte": 1}}, "+summary_metrics.loss")
@example(
    ODD, {"$or": [{"summary_metrics.train/loss": 1}, {'summary_metrics.q"': 1}]}, "-summary_metrics.loss"
)
@example(NESTED, {"config.opt.value.m": 2}, "")
@example(NESTED, {"config.opt.m": {"$gte": 2}}, "-config.a.b")
@example(NESTED, {"summary_metrics.val.acc": {"$lt": 0}}, "+summary_metrics.val.acc")
@example(SPARSE, {"group": {"$ne": "g"}}, "+group")
@example(SPARSE, {"$nor": [{"group": {"$gt": "a"}}]}, "-group")
@example(SPARSE, {"tags": "a"}, "-created_at")
@example(SPARSE, {"$not": {"tags": "a"}}, "+displayName")
@example(SPARSE, {"displayName": "r0"}, "-displayName,+group")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(rows, max_size=6), filters, orders)
def test_the_listing_matches_the_filter_and_the_order(
    services: Services, rows: list[dict[str, Any]], filters: dict[str, Any], order: str
) -> None:
    with suppress(RollBackError), services.world.database.write() as transaction:
        shelf = Inventory(transaction, rows)
        try:
            expected = shelf.expected(filters, order)
        except RefusedError:
            with suppress(RefusedError):  # an earlier clause may have excluded all runs
                shelf.listed(filters, order)
            raise RollBackError from None
        assert shelf.listed(filters, order) == expected
        raise RollBackError
