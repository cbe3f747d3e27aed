"""A pool's endpoints: their answers, and the keys that they accept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from parallel_hpo.core.keys import SUPERVISOR, node_key, node_worker_key, worker_key
from parallel_hpo.core.pool_messages import as_json
from tests.server.application import REGISTER, Web
from tests.server.pool_requests import TIMEOUT_S, machine, new_pool, told
from tests.server.server_logic import MASTER_KEY, Services, grid


class Site:
    """A server with a sweep of a grid, its pool, and callers by their keys."""

    def __init__(self, services: Services, clients: ExitStack) -> None:
        self.services = services
        self._clients = clients
        self.sweep = services.sweep(grid(6))
        self.master = self.caller(MASTER_KEY)
        self.open()
        self.numbers = iter(range(1, 1000))

    def open(self, **wanted: Any) -> None:
        wanted = as_json(new_pool(self.sweep, backend="local", **wanted))
        assert self.post(self.master, "", wanted).status_code == 200

    def caller(self, key: str) -> Web:
        return self._clients.enter_context(Web(self.services, key))

    def post(self, caller: Web, verb: str, body: Any) -> Any:
        content = body if isinstance(body, dict) else as_json(body)
        return caller.post(f"/hpo/pools/{self.sweep}{verb}", json=content)

    def join(self, name: str = "a") -> tuple[int, str]:
        """Let a machine join, and return its epoch and its key."""
        joined = self.post(self.master, "/join", machine(name)).json()
        return joined["epoch"], joined["key"]

    def exchange(self, caller: Web, epoch: int, wants: int = 0, **more: Any) -> Any:
        answer = self.post(caller, "/exchange", told(epoch, next(self.numbers), wants, **more))
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def site(services: Services) -> Iterator[Site]:
    with ExitStack() as clients:
        yield Site(services, clients)


def test_reading_the_events_does_not_count_as_a_message_of_the_coordinator(site: Site) -> None:
    site.open(has_coordinator=True)
    site.join()
    site.services.clock.now += TIMEOUT_S - 1
    assert site.exchange(site.master, 1)["ends"] is None
    watched = site.master.get(f"/hpo/pools/{site.sweep}/events?event=0").json()
    assert [event["kind"] for event in watched["events"]] == ["opened", "opened", "joined"]
    assert (watched["living"], watched["ends"]) == (1, None)
    site.services.clock.now += 1
    assert site.exchange(site.master, 1)["ends"] is not None


def test_the_key_of_a_lost_node_is_accepted_only_by_the_pool(site: Site) -> None:
    epoch, key = site.join()
    node, worker = site.caller(key), site.caller(node_worker_key(key, "m_0_1"))
    state = f"/hpo/sweeps/local/p/{site.sweep}"
    assert node.get(state).status_code == 200
    assert "errors" not in worker.ask(REGISTER, s=site.sweep)
    site.services.clock.now += TIMEOUT_S
    site.join("b")  # the next join detects that the first node is lost
    answers = [
        node.get(state),
        worker.post("/graphql", json={"query": REGISTER, "variables": {"s": site.sweep}}),
        worker.post("/files/local/p/r/file_stream", json={"complete": True, "exitcode": 0}),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert "epoch 1" in answers[0].json()["error"]
    assert site.exchange(node, epoch)["gone"] is True


@pytest.mark.parametrize("verb", ["", "/join", "/exchange", "/leave", "/stop", "/divide", "/lost"])
def test_other_keys_and_the_epoch_of_another_node_are_refused(site: Site, verb: str) -> None:
    (_, key), (other_epoch, _) = site.join("a"), site.join("b")
    other = site.services.sweep(grid(2))
    strangers = (
        node_worker_key(key, "m_0_1"),
        worker_key(MASTER_KEY, "m_0_1", site.sweep),
        worker_key(MASTER_KEY, SUPERVISOR, other),
        worker_key(MASTER_KEY, SUPERVISOR),
        node_key(MASTER_KEY, other, 1),
    )
    for stranger in strangers:
        assert site.post(site.caller(stranger), verb, {}).status_code == 403
    of_another = {"epoch": other_epoch, "number": 1, "wants": 1, "reason": "x"}
    answer = site.post(site.caller(key), verb, of_another)
    assert answer.status_code == 403
    if verb in ("/exchange", "/leave"):
        assert "epoch 1" in answer.json()["error"]


def test_an_unknown_pool_or_an_invalid_body_is_refused_with_a_reason(site: Site) -> None:
    def refused(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]

    assert site.master.get("/hpo/pools/unknown/events").status_code == 404
    status, why = refused(site.master.get("/hpo/pools/nowhere"))
    assert (status, "has no pool here" in why) == (404, True)
    for answer, words in (
        (site.post(site.master, "/join", {"name": "a"}), "Join.versions"),
        (site.post(site.master, "", as_json(new_pool("other"))), "is not sweep"),
        (site.master.get(f"/hpo/pools/{site.sweep}/news?event=-1"), "event='-1'"),
    ):
        status, why = refused(answer)
        assert (status, words in why) == (400, True)
