"""We open the same sweeps as the client on our server, and find the same server, API key and mode."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.credentials import find_credentials, find_mode
from parallel_hpo.client.server_client import ServerClient, create_on_own_server
from parallel_hpo.core.errors import BackendError
from tests.commands import start_python
from tests.contract.serving import CLIENTS, DEADLINE_S, ROOT, Server, answers_in

RANGES: Final = {
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
SETTINGS: Final = "[default]\nentity = team\nproject = theirs\n"
"""The settings that `wandb init` writes."""
TEXT: Final = """query Text($e: String, $p: String!, $n: String!) {
  project(entityName: $e, name: $p) { sweep(sweepName: $n) { config } }
}"""


@dataclass(frozen=True)
class Order:
    request: SweepRequest
    env: Mapping[str, str] = field(default_factory=dict)
    folder: str = "."


NEW: Final = SweepRequest(RANGES, None, None, None)
BY_ITSELF: Final = replace(NEW, configuration=RANGES | {"project": "own"})
ASKED: Final = replace(BY_ITSELF, project="asked", entity="you")
VARIABLES: Final = {"WANDB_PROJECT": "p", "WANDB_ENTITY": "e"}
TO_CREATE: Final = {
    "nameless": Order(NEW),
    "named by itself": Order(BY_ITSELF),
    "named": Order(ASKED),
    "nameless, with variables": Order(NEW, VARIABLES),
    "named by itself, with variables": Order(BY_ITSELF, VARIABLES),
    "named, with variables": Order(ASKED, VARIABLES),
    "where `wandb init` has written": Order(NEW, folder="initialized"),
}
TO_JOIN: Final = {
    "by its path": Order(SweepRequest(None, None, "you", "you/asked/{id}")),
    "by its project and id": Order(SweepRequest(None, None, "you", "asked/{id}")),
    "by its id": Order(SweepRequest(None, "asked", "you", "{id}")),
    "where the variables say": Order(
        SweepRequest(None, None, None, "{id}"), {"WANDB_ENTITY": "you", "WANDB_PROJECT": "asked"}
    ),
}


@dataclass(frozen=True)
class Openings:
    """The client's results by order; `made` is the sweep to join."""

    server: Server
    made: OpenedSweep
    by_client: Mapping[str, Any]


def client_of(server: Server) -> ServerClient:
    return ServerClient(server.said["api_key"], threading.Event(), lambda: None, url=server.said["url"])


def open_ours(server: Server, order: Order) -> OpenedSweep:
    return create_on_own_server(client_of(server), order.request, {**server.env, **order.env})


def joining(order: Order, made: OpenedSweep) -> Order:
    sweep_id = str(order.request.sweep_id).format(id=made.path.sweep_id)
    return replace(order, request=replace(order.request, sweep_id=sweep_id))


@pytest.fixture(scope="module")
def openings(server: Server) -> Openings:
    written = Path(server.env["HOME"], "initialized", "wandb", "settings")
    written.parent.mkdir(parents=True)
    written.write_text(SETTINGS)
    made = open_ours(server, Order(ASKED))
    orders = TO_CREATE | {name: joining(order, made) for name, order in TO_JOIN.items()}
    told = json.dumps({name: asdict(order) for name, order in orders.items()})
    return Openings(server, made, server.client("opening.py", ORDERS=told))


def written(server: Server, path: Mapping[str, Any]) -> str:
    """Return a sweep's configuration as sent to the server."""
    asked = {"e": path["entity"], "p": path["project"], "n": path["sweep_id"]}
    return str(client_of(server).ask_graphql(TEXT, asked)["project"]["sweep"]["config"])


def without_its_id(opened: Any) -> list[object]:
    path = opened["path"]
    name = path["sweep_id"]
    assert opened["url"].endswith(f"/sweeps/{name}")
    return [path["entity"], path["project"], opened["url"].removesuffix(name), opened["configuration"]]


@pytest.mark.leans_on_wandb
@pytest.mark.parametrize("name", TO_CREATE)
def test_a_sweep_is_created_as_the_client_does(
    openings: Openings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(Path(openings.server.env["HOME"], TO_CREATE[name].folder))  # where the client was
    ours = json.loads(json.dumps(asdict(open_ours(openings.server, TO_CREATE[name]))))
    clients = openings.by_client[name]
    assert without_its_id(ours) == without_its_id(clients)
    assert written(openings.server, ours["path"]) == written(openings.server, clients["path"])


@pytest.mark.parametrize("name", TO_JOIN)
def test_a_sweep_is_joined_as_the_client_does(openings: Openings, name: str) -> None:
    assert open_ours(openings.server, joining(TO_JOIN[name], openings.made)) == openings.made
    assert openings.by_client[name] == json.loads(json.dumps(asdict(openings.made)))


def test_settings_written_by_wandb_init_apply_and_text_stays_text(openings: Openings) -> None:
    path = openings.by_client["where `wandb init` has written"]["path"]
    assert (path["entity"], path["project"]) == ("team", "theirs")
    assert "name: '008'" in written(openings.server, path)


def test_an_unknown_sweep_is_reported_with_its_path_and_the_servers_url(server: Server) -> None:
    with pytest.raises(BackendError) as failed:
        open_ours(server, Order(SweepRequest(None, "p", "e", "nosuchid")))
    assert str(failed.value) == f"{server.said['url']}: there is no sweep e/p/nosuchid"


def test_mixed_integer_and_float_bounds_are_refused(server: Server) -> None:
    mixed = {"method": "random", "parameters": {"x": {"min": 0, "max": 1.5}}}
    with pytest.raises(BackendError, match="x is ambiguous"):
        open_ours(server, Order(replace(NEW, configuration=mixed)))


OLD, NEWER, OWN = ("api.wandb.ai", "a" * 40), ("api.forge.coreweave.com", "b" * 40), ("w.example", "c" * 40)


def netrc(*known: tuple[str, str]) -> str:
    return "".join(f"machine {host}\n  login user\n  password {key}\n" for host, key in known)


SYSTEM, PROJECT = ".config/wandb/settings", "wandb/settings"
OWN_SERVER: Final = "[default]\nbase_url = http://w.example/\n"
OFFLINE: Final = "[default]\nmode = offline\n"
BOTH: Final = {".netrc": netrc(OLD, NEWER)}
PROXY: Final = "https://forge.coreweave.com/api/wandb"
HOMES: Final[dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    "no login": ({}, {}),
    "by an older client": ({".netrc": netrc(OLD)}, {}),
    "by a newer client": ({".netrc": netrc(NEWER)}, {}),
    "by both": (BOTH, {}),
    "the older address": (BOTH, {"WANDB_BASE_URL": "https://api.wandb.ai/"}),
    "the proxy": (BOTH, {"WANDB_BASE_URL": PROXY}),
    "the user's own server": ({SYSTEM: OWN_SERVER, "_netrc": netrc(OWN)}, {}),
    "a second netrc": ({SYSTEM: OWN_SERVER, "_netrc": netrc(OWN), **BOTH}, {}),
    "a project's server": ({PROJECT: OWN_SERVER, "n": netrc(OWN)}, {"NETRC": "n"}),
    "wandb offline": ({PROJECT: OFFLINE}, {"NETRC": ""}),
    "a project's hidden folder": ({PROJECT: OFFLINE, ".wandb/settings": OWN_SERVER}, {}),
    "WANDB_DIR": ({PROJECT: OFFLINE, "d/wandb/settings": OWN_SERVER}, {"WANDB_DIR": "d"}),
    "wandb online": ({PROJECT: OFFLINE, SYSTEM: OWN_SERVER}, {"WANDB_MODE": "online"}),
}
"""Files and environment variables of each home."""


@pytest.mark.leans_on_wandb
def test_our_credentials_and_mode_match_those_of_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders, ours = {}, {}
    for number, (name, (files, variables)) in enumerate(HOMES.items()):
        home = tmp_path / str(number)
        home.mkdir()
        for path, content in files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(content)
        environment = {"HOME": str(home), **variables}
        orders[name] = {"folder": str(home), "env": environment}
        monkeypatch.chdir(home)  # the project's settings are read from here, as by the client
        found, mode = find_credentials(environment), find_mode(environment).name or "online"
        ours[name] = {"base_url": found.base_url, "key": found.key, "mode": mode}
    own = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), "ORDERS": json.dumps(orders)}
    client = start_python(str(CLIENTS / "opening.py"), folder=tmp_path, environment=own)
    stdout, stderr = client.communicate(timeout=DEADLINE_S)
    assert client.wait() == 0, stderr
    assert answers_in(stdout) == ours
