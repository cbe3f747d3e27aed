"""A server of ours is asked for a sweep without the client: it becomes what the client would make of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.server_client import ServerClient, create_on_own_server
from parallel_hpo.core.errors import BackendError
from tests.contract.serving import Server

RANGES = {
    "method": "random",
    "name": "008",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {
        "whole": {"min": 1, "max": 9},
        "real": {"min": 1e-07, "max": 0.5},
        "named": {"min": 1, "max": 9, "distribution": "q_uniform"},
        "text": {"values": ["010", "a", "yes", None, 1e-05]},
        "inner": {"parameters": {"deep": {"min": 1, "max": 2}}},
    },
}
NOTHING: Mapping[str, str] = {}
NEW = SweepRequest(RANGES, None, None, None)
BY_ITSELF = replace(NEW, configuration=RANGES | {"project": "own"})
ASKED = replace(BY_ITSELF, project="asked", entity="you")


def door_of(server: Server) -> ServerClient:
    return ServerClient(server.said["api_key"], threading.Event(), lambda: None, url=server.said["url"])


def as_we_do(server: Server, order: SweepRequest, env: Mapping[str, str] = NOTHING) -> OpenedSweep:
    return create_on_own_server(door_of(server), order, {**server.env, **env})


TEXT = "query Text($n: String!, $p: String!) { project(name: $p) { sweep(sweepName: $n) { config } } }"


def written(server: Server, path: Mapping[str, Any]) -> str:
    """Return a sweep's configuration as the server has been given it."""
    asked = {"n": path["sweep_id"], "p": path["project"]}
    return str(door_of(server).ask_graphql(TEXT, asked)["project"]["sweep"]["config"])


def told(opened: OpenedSweep) -> Any:
    return json.loads(json.dumps(asdict(opened)))


def as_the_client_does(server: Server, order: SweepRequest, env: Mapping[str, str] = NOTHING) -> Any:
    more: dict[str, Any] = {**env, "ORDER": json.dumps(asdict(order))}
    return server.client("opening.py", **more)


def without_its_id(opened: Any) -> list[object]:
    path = opened["path"]
    name = path["sweep_id"]
    assert opened["url"].endswith(f"/sweeps/{name}")
    return [path["entity"], path["project"], opened["url"].removesuffix(name), opened["configuration"]]


@pytest.mark.leans_on_wandb
@pytest.mark.parametrize("order", [NEW, BY_ITSELF, ASKED], ids=["nameless", "named by itself", "named"])
@pytest.mark.parametrize("env", [{}, {"WANDB_PROJECT": "p", "WANDB_ENTITY": "e"}], ids=["", "variables"])
def test_a_sweep_is_created_as_by_the_client(
    server: Server, order: SweepRequest, env: dict[str, str]
) -> None:
    ours, clients = as_we_do(server, order, env), as_the_client_does(server, order, env)
    assert without_its_id(told(ours)) == without_its_id(clients)


@pytest.mark.leans_on_wandb
def test_what_wandb_init_has_written_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(server.env["HOME"])  # where the client is
    written = Path("wandb", "settings")
    written.parent.mkdir(exist_ok=True)
    written.write_text("[default]\nentity = team\nproject = theirs\n")
    ours, clients = as_we_do(server, NEW), as_the_client_does(server, NEW)
    written.unlink()
    assert without_its_id(told(ours)) == without_its_id(clients)
    assert (ours.path.entity, ours.path.project) == ("team", "theirs")


def test_a_sweep_is_joined_by_its_id_with_and_without_its_project(server: Server) -> None:
    made = as_we_do(server, ASKED)
    entity, project, name = made.path.entity, made.path.project, made.path.sweep_id
    for sweep_id in (f"{entity}/{project}/{name}", f"{project}/{name}", name):
        order = SweepRequest(None, None if "/" in sweep_id else project, entity, sweep_id)
        assert as_we_do(server, order) == made
    assert as_the_client_does(server, order) == told(made)


def test_a_sweep_is_joined_where_the_variables_say(server: Server) -> None:
    made = as_we_do(server, ASKED)
    where = {"WANDB_ENTITY": made.path.entity, "WANDB_PROJECT": made.path.project}
    order = SweepRequest(None, None, None, made.path.sweep_id)
    assert as_we_do(server, order, where) == made
    assert as_the_client_does(server, order, where) == told(made)


@pytest.mark.leans_on_wandb
def test_text_that_others_would_read_as_a_number_is_written_as_by_the_client(server: Server) -> None:
    ours, clients = told(as_we_do(server, NEW)), as_the_client_does(server, NEW)
    assert written(server, ours["path"]) == written(server, clients["path"])
    assert "name: '008'" in written(server, ours["path"])


def test_one_that_is_not_there_is_said_with_its_path_and_the_servers_address(server: Server) -> None:
    with pytest.raises(BackendError) as failed:
        as_we_do(server, SweepRequest(None, "p", "e", "nosuchid"))
    assert str(failed.value) == f"{server.said['url']}: there is no sweep e/p/nosuchid"


def test_bounds_of_two_kinds_are_refused_as_by_the_client(server: Server) -> None:
    mixed = replace(NEW, configuration={"method": "random", "parameters": {"x": {"min": 0, "max": 1.5}}})
    with pytest.raises(BackendError, match="x is ambiguous"):
        as_we_do(server, mixed)
