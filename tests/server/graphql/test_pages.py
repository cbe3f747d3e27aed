"""Lists are read page by page, each entry exactly once, during concurrent writes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from parallel_hpo.core.keys import worker_key
from parallel_hpo.server.store import projects, runs
from parallel_hpo.server.store.listing import ListingCache, ListingScope
from tests.server.application import Web
from tests.server.server_logic import MASTER_KEY, Services, grid

RUNS = """query R($after: String, $first: Int, $order: String, $filters: JSONString) { project(name: "p") {
    runCount(filters: $filters)
    list: runs(after: $after, first: $first, order: $order, filters: $filters) {
        edges { cursor node { name } } pageInfo { endCursor hasNextPage } } } }"""
BEST = "+summary_metrics.loss"
LOSSES = [3.0, float("nan"), 1.0, 4.0, 1.0]
"""The losses of the runs r0 to r4."""


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    for number, loss in enumerate(LOSSES):
        services.clock.now += 1
        log(services, f"r{number}", loss)
    services.upsert("of another", project="q")
    with Web(services) as web:
        yield web


def log(services: Services, name: str, loss: float) -> None:
    services.upsert(name, summary=json.dumps({"loss": loss}))


def page(web: Web, **variables: Any) -> Any:
    return web.ask(RUNS, **variables)["data"]["project"]


def names(found: Any) -> list[str]:
    return [edge["node"]["name"] for edge in found["list"]["edges"]]


def walk(web: Web, between: Callable[[], object] = lambda: None, **variables: Any) -> list[list[str]]:
    """Read all pages of two runs, and call a function after each."""
    pages, after, more = [], None, True
    while more:
        found = page(web, first=2, after=after, **variables)
        pages.append(names(found))
        after, more = found["list"]["pageInfo"]["endCursor"], found["list"]["pageInfo"]["hasNextPage"]
        between()
    return pages


def test_pages_sorted_by_a_metric_list_each_run_once_while_runs_log(services: Services, web: Web) -> None:
    losses = itertools.count(-1, -1)
    pages = walk(web, between=lambda: log(services, "r0", next(losses)), order=BEST)
    assert sorted(itertools.chain(*pages)) == ["r0", "r1", "r2", "r3", "r4"]


def test_a_cursor_is_applied_to_the_requested_order(web: Web) -> None:
    first = page(web, first=2, order=BEST)["list"]["pageInfo"]["endCursor"]
    assert names(page(web, first=2, order="-summary_metrics.loss", after=first)) == ["r2", "r4"]


def test_a_deleted_run_is_left_out_of_the_next_page(services: Services, web: Web) -> None:
    first = page(web, first=2, order=BEST)["list"]["pageInfo"]["endCursor"]
    services.delete("r0")
    found = page(web, first=2, order=BEST, after=first)
    assert names(found) == ["r3"]
    assert found["list"]["pageInfo"]["hasNextPage"]


def test_another_server_process_continues_from_the_same_cursor(services: Services, web: Web) -> None:
    first = page(web, first=2, order=BEST)["list"]["pageInfo"]["endCursor"]
    services.forget_engines()
    with Web(services) as other:
        assert names(page(other, first=2, order=BEST, after=first)) == ["r0", "r3"]


@pytest.mark.parametrize("filters", [{}, {"name": {"$ne": "r0"}}, {"summary_metrics.loss": {"$lt": 4}}])
@pytest.mark.parametrize("order", [None, BEST])
def test_each_page_has_the_total_run_count(web: Web, filters: dict[str, Any], order: str | None) -> None:
    wanted = {"filters": json.dumps(filters), "order": order}
    first = page(web, first=1, **wanted)
    second = page(web, first=9, after=first["list"]["pageInfo"]["endCursor"], **wanted)
    assert first["runCount"] == second["runCount"] == len(names(first) + names(second))


def test_a_later_page_has_the_run_count_of_its_own_listing(services: Services, web: Web) -> None:
    wanted = {"filters": '{"summary_metrics.loss": {"$lt": 4}}', "order": BEST}
    first = page(web, first=1, **wanted)
    log(services, "new", 0.0)
    second = page(web, first=9, after=first["list"]["pageInfo"]["endCursor"], **wanted)
    assert (second["runCount"], names(second)) == (3, ["r4", "r0"])
    assert page(web, **wanted)["runCount"] == 4


def test_a_worker_key_shows_no_other_sweeps_runs_in_a_cached_listing(services: Services, web: Web) -> None:
    own, other = services.sweep(grid(2)), services.sweep(grid(2))
    for sweep in (own, other):
        services.perform(sweep, services.agent(sweep))
    wanted = {"first": 1, "order": BEST, "filters": '{"summary_metrics.loss": {"$lt": 9}}'}
    first = page(web, **wanted)
    with Web(services, worker_key(MASTER_KEY, "w0", own)) as worker:
        found = page(worker, after=first["list"]["pageInfo"]["endCursor"], **wanted)
    assert (first["runCount"], found["runCount"]) == (6, 5)


def test_a_page_has_at_most_1000_runs(services: Services) -> None:
    with services.world.database.write() as transaction:
        project = projects.ensure(transaction, "local", "p", 0.0)
        common = {"project_id": project.id, "state": "running", "created_at": 0.0, "heard_at": 0.0}
        for number in range(1001):
            runs.create(transaction, {"name": f"r{number}", **common})
    with Web(services) as web:
        first = page(web, first=5000)
        assert len(names(first)) == 1000
        assert names(page(web, after=first["list"]["pageInfo"]["endCursor"])) == ["r1000"]


SWEEP_LISTS = """query S($after: String, $sweep: String, $agent: String) {
    models(first: 1, after: $after) { ...p }
    project(name: "p") { totalSweeps sweeps(first: 1, after: $after) { ...s }
        sweep(sweepName: $sweep) { runCount runs(first: 1, after: $after) { ...r }
            agent(agentName: $agent) { totalRuns runs(first: 1, after: $after) { ...r } } } } }
    fragment p on ProjectConnection { edges { node { name } } pageInfo { endCursor hasNextPage } }
    fragment s on SweepConnection { edges { node { name } } pageInfo { endCursor hasNextPage } }
    fragment r on RunConnection { edges { node { name } } pageInfo { endCursor hasNextPage } }"""


def test_projects_sweeps_and_the_runs_of_a_sweep_or_agent_are_paginated(services: Services) -> None:
    services.upsert("r", project="q")
    sweeps = [services.sweep(grid(2))]
    services.clock.now += 1
    sweeps.append(services.sweep(grid(2)))
    agent = services.agent(sweeps[0])
    done = [services.perform(sweeps[0], agent) for _ in range(2)]
    met: list[list[str]] = [[], [], [], []]
    with Web(services) as web:
        for after in (None, "1"):
            data = web.ask(SWEEP_LISTS, after=after, sweep=sweeps[0], agent=agent)["data"]
            project, sweep = data["project"], data["project"]["sweep"]
            lists = (data["models"], project["sweeps"], sweep["runs"], sweep["agent"]["runs"])
            for names_so_far, found in zip(met, lists, strict=True):
                assert found["pageInfo"]["hasNextPage"] is (after is None)
                names_so_far += [edge["node"]["name"] for edge in found["edges"]]
    assert project["totalSweeps"] == sweep["runCount"] == sweep["agent"]["totalRuns"] == 2
    assert met == [["p", "q"], sweeps[::-1], done, done]


def test_only_the_most_recently_used_listings_are_cached() -> None:
    listings, scope = ListingCache(), ListingScope(1, None, None)
    kept = [listings.add(scope, None, [number]) for number in range(100)]
    assert listings.find(kept[0].name, scope) is None
    assert listings.find(kept[-1].name, scope) == kept[-1]
    assert listings.find(kept[-1].name, ListingScope(2, None, None)) is None
