"""Requests of a machine and a coordinator to a pool on a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.core.errors import ConfigError, ExitCode, PoolOverError, ServerAwayError, ServerRefusedError
from parallel_hpo.core.keys import SUPERVISOR, worker_key
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import NodeLost
from parallel_hpo.core.types import StopKind
from tests.conftest import clean_env_in
from tests.server.embedded import KEY, Embedded
from tests.server.pool_requests import VERSIONS, end, machine, new_pool, start, told


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with clean_env_in(folder / "home") as environment:
        server = Embedded(environment, folder / "server.db")
        yield server.said()["url"]
        server.end()


@pytest.fixture
def sweep() -> str:
    """A sweep of this test only."""
    return uuid4().hex[:8]


def client_of(url: str, sweep: str) -> PoolClient:
    """The coordinator's client, with the sweep's own key and a new pool."""
    client = PoolClient(url, worker_key(KEY, SUPERVISOR, sweep), sweep)
    client.create(new_pool(sweep))
    return client


def test_a_machines_runs_and_departure_reach_the_coordinator(url: str, sweep: str) -> None:
    coordinator = client_of(url, sweep)
    joined = coordinator.join(machine("gpu1"))
    node = PoolClient(url, joined.key, sweep)
    assert node.exchange(told(joined.epoch, 1, wants=1)).granted == 1
    assert node.exchange(told(joined.epoch, 2, starts=(start("r"),))).started == ("r",)
    node.exchange(told(joined.epoch, 3, ends=(end("r"),), notices=({"kind": "Message"},)))
    node.leave(joined.epoch, "done")
    news = coordinator.news(1, 0)
    assert [event.kind for event in news.events] == ["joined", "started", "ended", "left"]
    assert news.notices == ((1, 1, {"kind": "Message"}),)
    assert node.exchange(told(joined.epoch, 4)).gone


def test_a_pools_facts_are_read_back_unchanged(url: str, sweep: str) -> None:
    assert client_of(url, sweep).facts() == new_pool(sweep)
    assert PoolClient(url, KEY, "other").facts() is None


def test_a_machine_that_joins_a_stopped_sweep_gets_its_exit_code(url: str, sweep: str) -> None:
    coordinator = client_of(url, sweep)
    coordinator.stop(SweepEnd("Ctrl-C", 130, StopKind.INTERRUPT))
    with pytest.raises(PoolOverError, match="Ctrl-C") as caught:
        coordinator.join(machine())
    assert caught.value.ends_with == 130
    assert coordinator.create(new_pool(sweep)).started == 0
    assert coordinator.join(machine()).epoch == 1


def test_a_machine_with_another_version_is_refused_with_both_versions(url: str, sweep: str) -> None:
    wants = replace(machine(), versions=replace(VERSIONS, parallel_hpo="9.9"))
    with pytest.raises(ConfigError, match=r"9\.9 there and 1\.0 at the coordinator") as caught:
        client_of(url, sweep).join(wants)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_node_whose_task_has_returned_is_lost_to_the_pool(url: str, sweep: str) -> None:
    coordinator = client_of(url, sweep)
    joined = coordinator.join(machine("gpu1"))
    coordinator.lost(NodeLost("gpu1", returned=True))
    assert PoolClient(url, joined.key, sweep).exchange(told(joined.epoch, 1)).gone


def test_an_invalid_key_is_refused_with_the_servers_message(url: str, sweep: str) -> None:
    with pytest.raises(ServerRefusedError, match="the sweep's own") as caught:
        PoolClient(url, worker_key(KEY, "w0", sweep), sweep).facts()
    assert caught.value.status == 403
    with pytest.raises(ServerRefusedError, match="API key is missing"):
        PoolClient(url, "0" * 40, sweep).facts()


def test_a_silent_or_closed_server_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = PoolClient(f"http://127.0.0.1:{silent.getsockname()[1]}", KEY, "s", limit_s=0.2)
        with pytest.raises(ServerAwayError, match="timed out"):
            client.facts()
    with pytest.raises(ServerAwayError, match="refused"):
        client.facts()
