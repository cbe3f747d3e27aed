from __future__ import annotations

import itertools
from uuid import uuid4

import pytest
from graphql import parse

from parallel_hpo.server.context import UNLABELLED, Caller
from parallel_hpo.server.graphql.execute import Executor, check_size
from parallel_hpo.server.values import GraphQLRequest, RefusedError
from tests.server.server_logic import Services, grid

CALLER = Caller(UNLABELLED, is_master=True, base_url="http://127.0.0.1:1234")
LINES = 30
DOUBLING = " ".join(f"fragment f{line} on User {{ ...f{line + 1} ...f{line + 1} }}" for line in range(LINES))
"""Each fragment doubles the fields of the next one: 2**30 fields in 1,200 characters."""


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
def test_an_oversized_query_is_refused_before_validation(query: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        check_size(parse(query))


def test_a_fragment_is_counted_at_every_use() -> None:
    fragments = "fragment f on A { ...g id } fragment g on A { id }"
    check_size(parse(f"{{ a {{ {'...f ' * 498} }} b {{ ...f }} }} {fragments}"))
    with pytest.raises(RefusedError, match="more than 1000 fields"):
        check_size(parse(f"{{ a {{ {'...f ' * 499} }} b {{ ...f }} }} {fragments}"))


def test_a_slow_query_is_refused_but_a_slow_mutation_is_not(services: Services) -> None:
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
def test_a_possible_mutation_is_not_read_only(query: str, operation: str | None, only_reads: bool) -> None:
    query += f" # {uuid4()}"  # the executors of a process share one cache
    executor, request = Executor(), GraphQLRequest(query, None, operation)
    assert not executor.knows(request)
    assert executor.only_reads(request) is only_reads
    assert executor.knows(request)


def test_a_slow_query_stops_while_it_filters_runs(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    for _ in range(3):
        services.perform(sweep, agent)
    ticks = itertools.count(step=3)
    executor = Executor(clock=lambda: float(next(ticks)))
    query = '{ project(name: "p") { runCount(filters: "{\\"config.x\\": {\\"$ne\\": 9}}") } }'
    with pytest.raises(RefusedError, match="takes too long"):
        executor.execute(services.world, CALLER, asking(query))
