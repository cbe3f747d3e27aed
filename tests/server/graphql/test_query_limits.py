from __future__ import annotations

import itertools
from uuid import uuid4

import pytest
from graphql import parse

from parallel_hpo.server.context import UNLABELLED, Caller
from parallel_hpo.server.graphql.execute import Executor, check_size
from parallel_hpo.server.values import GraphQLRequest, RefusedError
from tests.server.acting import Services, grid

CALLER = Caller(UNLABELLED, is_master=True, base_url="http://127.0.0.1:1234")
LINES = 30
DOUBLING = " ".join(f"fragment f{line} on User {{ ...f{line + 1} ...f{line + 1} }}" for line in range(LINES))
"""Each line doubles what the one after it asks for: 2**30 fields in 1,200 characters."""


def asking(query: str) -> GraphQLRequest:
    return GraphQLRequest(query, None, None)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (f"{{ viewer {{ {'id ' * 1000} }} }}", "more than 1000 fields"),
        (f"{{ viewer {{ ...f0 }} }} {DOUBLING} fragment f{LINES} on User {{ id }}", "more than 1000 fields"),
        ("{ viewer { ...a } } fragment a on User { ...b } fragment b on User { ...a }", "contains itself"),
        ("{ a { ...f } } fragment f on A { " + "a { " * 30 + "a" + " }" * 31, "nested too deeply"),
    ],
)
def test_a_document_that_asks_for_too_much_is_refused_before_it_is_validated(query: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        check_size(parse(query))


def test_a_fragment_is_counted_wherever_it_stands() -> None:
    fragments = "fragment f on A { ...g id } fragment g on A { id }"
    check_size(parse(f"{{ a {{ {'...f ' * 498} }} b {{ ...f }} }} {fragments}"))
    with pytest.raises(RefusedError, match="more than 1000 fields"):
        check_size(parse(f"{{ a {{ {'...f ' * 499} }} b {{ ...f }} }} {fragments}"))


def test_a_query_that_takes_too_long_is_refused_and_a_mutation_is_not(services: Services) -> None:
    ticks = itertools.count(step=4)
    executor = Executor(clock=lambda: float(next(ticks)))
    sweep = services.sweep(grid(1))
    with pytest.raises(RefusedError, match="takes too long"):
        executor.execute(
            services.world, CALLER, GraphQLRequest("{ viewer { id name username email } }", None, None)
        )
    register = (
        f'mutation {{ createAgent(input: {{host: "h", sweep: "{sweep}"}}) {{ agent {{ id name state }} }} }}'
    )
    assert executor.execute(services.world, CALLER, GraphQLRequest(register, None, None)).data


MIXED = "query Read { viewer { id } } mutation Stop($id: ID!) { stopRun(input: {id: $id}) { success } }"


@pytest.mark.parametrize(
    ("query", "operation", "only_reads"),
    [
        ("{ viewer { id } }", None, True),
        ("# mutation\nquery Q { viewer { id } }", None, True),
        (MIXED, "Read", True),
        (MIXED, "Stop", False),
        (MIXED, None, False),
        (MIXED, "Other", False),
    ],
)
def test_what_may_change_something_is_no_query(query: str, operation: str | None, only_reads: bool) -> None:
    query += f" # {uuid4()}"  # all of a process's executors know the same
    executor, request = Executor(), GraphQLRequest(query, None, operation)
    assert not executor.knows(request)
    assert executor.only_reads(request) is only_reads
    assert executor.knows(request)


def test_a_query_stops_between_the_runs_that_it_looks_through(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    for _ in range(3):
        services.perform(sweep, agent)
    ticks = itertools.count(step=3)
    executor = Executor(clock=lambda: float(next(ticks)))
    query = '{ project(name: "p") { runCount(filters: "{\\"config.x\\": {\\"$ne\\": 9}}") } }'
    with pytest.raises(RefusedError, match="takes too long"):
        executor.execute(services.world, CALLER, asking(query))
