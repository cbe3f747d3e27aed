"""How a server of ours is asked, beside W&B's protocol, for what only its supervisors may know and do.

One of ours says so to anybody, without a key; W&B's has no such address. That is asked before anything is
started, and so in this process: one quick request.

A sweep's pool as nodes and heads ask it; whoever asks decides how long to wait and when to ask again.

Creates a sweep on a server of ours, or finds the one to be joined, as wandb's client would.

`wandb.sweep()` and `wandb.Api()` come to the same, but take a process with a wandb-core of its own: a tenth
of a second at each start of a sweep. What they add to a configuration, and where they find an entity's and
a project's name, is as there.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

# Not imported when something is asked first: at a script's end its import hides that Ctrl-C ended it. Not
# `requests`, which wandb brings too: every start of a sweep would take 21 to 27 ms more to import it.
import urllib3
import yaml
from urllib3.exceptions import HTTPError

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.calls import DEFAULT_PROJECT, FINISHED
from parallel_hpo.client.credentials import client_setting
from parallel_hpo.core.errors import (
    BackendError,
    ConfigError,
    PoolOverError,
    ServerAwayError,
    ServerRefusedError,
)
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import (
    POOL,
    Exchange,
    Granted,
    Join,
    Joined,
    NewPool,
    NodeLost,
    PoolNews,
    PoolState,
    as_json,
    read,
)
from parallel_hpo.core.types import SweepId, SweepPath

Answer = TypeVar("Answer")
REQUEST_LIMIT_S: Final = 10.0
GRAPHQL_LIMIT_S: Final = 60.0
"""Longer: a sweep that is created must be on the disk, and would be created once more by a second request."""
AWAY_LIMIT_S: Final = 60.0
"""So long is a server waited for that is being restarted; all requests together wait no longer."""
RETRY_S: Final = 0.1
AGAIN_S: Final = 0.5
"""After so long a server that is being started is asked again."""
KEPT: Final = 8
"""Connections to a server that are kept; more threads than that never ask at once."""
WANDBS: Final = (".wandb.ai", ".coreweave.com")
"""The cloud's hosts, which need not be asked whether they are ours."""
HERE: Final = ("127.0.0.1", "localhost", "::1")
_REFUSALS: Final = 300
_SERVERS_FAULT: Final = 500
"""Statuses from here on say that the same may be asked again."""
_NOT_THERE: Final = 404
_ODD: Final = 200

OUR_NAME: Final = "parallel_hpo"
ASK_LIMIT_S: Final = 3.0
"""One that takes longer counts as a stranger's, and is asked by the wandb client, which has patience."""


class ServerConnection:
    """A server of ours and a key to it: asks it once, from any thread, over connections that are kept."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        token = b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None, *, limit_s: float = REQUEST_LIMIT_S) -> Any:
        """Return the answer's JSON.

        Raises:
            ServerRefusedError: it says no.
            ServerAwayError: it does not answer within so many seconds, or can't now.
        """
        address = f"{self.url}{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._connections.request(
                method=method,
                url=address,
                body=data,
                headers=self._headers,
                timeout=limit_s,
                retries=False,
            )
        except (OSError, HTTPError) as error:
            raise ServerAwayError(f"{address}: {error}") from None
        if answer.status < _REFUSALS:
            return _json_in(answer.data, address)
        said = _said_in(answer.data)
        message = f"{address}: {said.get('error') or f'HTTP {answer.status} {answer.reason}'}"
        if answer.status >= _SERVERS_FAULT:
            raise ServerAwayError(message)
        raise ServerRefusedError(message, status=answer.status, answer=said)

    @cached_property
    def _connections(self) -> urllib3.PoolManager:
        return connections_to(self.url)


def connections_to(url: str) -> urllib3.PoolManager:
    """Return what keeps connections to a server, by the proxy that the environment names on the way there.

    None is on the way to this machine itself; elsewhere one may be the only way, as it is for wandb's client.
    """
    parts = urlsplit(url)
    here = parts.hostname in HERE or proxy_bypass(parts.netloc)
    proxy = None if here else getproxies().get(parts.scheme)
    if not proxy:
        return urllib3.PoolManager(maxsize=KEPT)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    known = urlsplit(proxy)
    login = f"{unquote(known.username)}:{unquote(known.password or '')}" if known.username else None
    headers = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=KEPT)


def _json_in(data: bytes, address: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        message = f"{address}: the answer is no JSON, so that no server of ours has given it"
        raise ServerRefusedError(message, status=_ODD, answer={}) from None


def _said_in(data: bytes) -> Mapping[str, Any]:
    """Return a refusal's body; empty where it is none of ours."""
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def ask_patiently(
    ask: Callable[[], Answer], *, within_s: float, say: Callable[[ServerAwayError], None] = lambda error: None
) -> Answer:
    """Return the answer of a server that may just be being started; `say` hears once that it is away.

    Raises ServerAwayError where it still is after so many seconds, and whatever else `ask` raises.
    """
    until, told = time.monotonic() + within_s, False
    while True:
        try:
            return ask()
        except ServerAwayError as error:
            if time.monotonic() >= until:
                raise
            if not told:
                say(error)
            told = True
            time.sleep(AGAIN_S)


class ServerClient:
    """Asks one server, from any thread; `url` is set once it is known."""

    def __init__(
        self,
        key: str,
        closing: threading.Event,
        why_lost: Callable[[], str],
        *,
        away_limit_s: float = AWAY_LIMIT_S,
        url: str = "",
    ) -> None:
        """`closing` ends every wait; `why_lost` says why the server will not be back, or ''.

        `url` may come later where the server is on this machine.
        """
        self.url = url
        self._key = key
        self._closing = closing
        self._why_lost = why_lost
        self._away_limit_s = away_limit_s
        self._away_since: float | None = None
        self._server: ServerConnection | None = None

    def ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer; None: there is no such thing. A server that is away is waited for.

        Raises:
            BackendError: it refuses, or is away for too long, or for good.
        """
        return self._ask(method, f"/hpo/sweeps/{path}{verb}", body, REQUEST_LIMIT_S)

    def ask_graphql(self, document: str, variables: Mapping[str, Any]) -> Any:
        """Return the data that the server gives for a document; raises the same."""
        body = {"query": document, "variables": dict(variables)}
        return self._ask("POST", "/graphql", body, GRAPHQL_LIMIT_S)["data"]

    def _ask(self, method: str, address: str, body: Mapping[str, Any] | None, limit_s: float) -> Any:
        if self._server is None or self._server.url != self.url.rstrip("/"):
            self._server = ServerConnection(self.url, self._key)
        server = self._server
        while True:
            try:
                answer = server.ask(method, address, body, limit_s=limit_s)
                self._away_since = None
                return answer
            except ServerRefusedError as error:
                if method == "GET" and error.status == _NOT_THERE:
                    return None
                raise BackendError(self._why_lost() or str(error)) from None
            except ServerAwayError as error:
                if self._why_lost() or self._closing.is_set() or self._is_away_for_long():
                    raise BackendError(self._why_lost() or str(error)) from None
                self._closing.wait(RETRY_S)

    def _is_away_for_long(self) -> bool:
        """Note that the server does not answer; whether it is not worth another wait."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since > self._away_limit_s


def is_away(url: str) -> bool:
    """Return whether nobody answers at this address now, as where a server is being started again."""
    try:
        ServerConnection(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except ServerAwayError:
        return True
    except BackendError:
        return False
    return False


def is_ours(url: str) -> bool:
    """Return whether a server of ours answers at this address."""
    host = urlsplit(url).hostname or ""
    if f".{host}".endswith(WANDBS):
        return False
    try:
        answer = ServerConnection(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except BackendError:
        return False
    return isinstance(answer, dict) and answer.get("server") == OUR_NAME


POOL_TIMEOUT_S: Final = 5.0
"""An answer that takes longer is given up: the same may be told again."""
_CONFLICT: Final = 409


class PoolClient:
    """Asks one pool with one key, once for each call and from any thread.

    All methods raise ServerAwayError where no answer comes within `limit_s` seconds, and
    ServerRefusedError where the answer is no, as to a key that is not good for it.
    """

    def __init__(self, url: str, key: str, sweep: str, *, limit_s: float = POOL_TIMEOUT_S) -> None:
        """`url` is the server's; `key` its master's, the sweep's own, or the node's that joined."""
        self._server = ServerConnection(url, key)
        self._pool = POOL.format(sweep=sweep)
        self._limit_s = limit_s

    def create(self, wanted: NewPool) -> PoolState:
        """Create the pool, or open it again, and return how far it is."""
        return read(PoolState, self._ask("POST", "", wanted))

    def facts(self) -> NewPool | None:
        """Return the pool as it was asked for; None: there is none."""
        try:
            return read(NewPool, self._ask("GET", ""))
        except ServerRefusedError as error:
            if error.status == _NOT_THERE:
                return None
            raise

    def join(self, wants: Join) -> Joined:
        """Take part.

        Raises:
            ConfigError: this machine's software is another than the head's.
            PoolOverError: the sweep is over, or about to be.
        """
        try:
            return read(Joined, self._ask("POST", "/join", wants))
        except ServerRefusedError as error:
            if error.status != _CONFLICT:
                raise
            why = str(error.answer.get("error", error))
            if "ends" in error.answer:
                ends = read(SweepEnd, error.answer["ends"])
                raise PoolOverError(why, ends_with=ends.exit_code) from None
            raise ConfigError(why) from None

    def exchange(self, told: Exchange) -> Granted:
        """Tell what there is to tell, and return what may be done."""
        return read(Granted, self._ask("POST", "/exchange", told))

    def leave(self, epoch: int, reason: str) -> None:
        """Say that nothing of the node runs any more."""
        self._send("/leave", {"epoch": epoch, "reason": reason})

    def stop(self, ends: SweepEnd) -> None:
        """Let all nodes leave."""
        self._ask("POST", "/stop", ends)

    def lost(self, lost: NodeLost) -> None:
        """Pass on what an engine says of a node's task."""
        self._ask("POST", "/lost", lost)

    def news(self, event: int, notice: int) -> PoolNews:
        """Return the events and notices after these numbers, and show that the head is there."""
        return read(PoolNews, self._ask("GET", f"/news?event={event}&notice={notice}"))

    def events(self, event: int) -> PoolNews:
        """Return the events after this number; unlike `news`, show nobody that a head is there."""
        return read(PoolNews, self._ask("GET", f"/events?event={event}"))

    def _ask(self, method: str, verb: str, told: Any = None) -> Any:
        body = None if told is None else as_json(told)
        return self._server.ask(method, f"{self._pool}{verb}", body, limit_s=self._limit_s)

    def _send(self, verb: str, body: Any) -> None:
        self._server.ask("POST", f"{self._pool}{verb}", body, limit_s=self._limit_s)


_SWEEP: Final = "name state config project { name entity { name } }"
CREATE: Final = f"""mutation CreateSweep($config: String!, $project: String, $entity: String) {{
  upsertSweep(input: {{config: $config, projectName: $project, entityName: $entity}}) {{
    sweep {{ {_SWEEP} }}
  }}
}}"""
_FIND: Final = f"""query FindSweep($name: String!, $project: String!, $entity: String) {{
  project(name: $project, entityName: $entity) {{ sweep(sweepName: $name) {{ {_SWEEP} }} }}
}}"""
_REOPEN: Final = f"""mutation ReopenSweep($id: ID!) {{
  upsertSweep(input: {{id: $id, state: "RUNNING"}}) {{ sweep {{ {_SWEEP} }} }}
}}"""


def create_on_own_server(
    door: ServerClient, order: SweepRequest, environment: Mapping[str, str]
) -> OpenedSweep:
    """Create or find a sweep; `environment` is a client's. BackendError for one that is not there."""
    found = (_create if order.sweep_id is None else _find)(door, order, environment)
    there = found["project"]
    path = SweepPath(there["entity"]["name"], there["name"], SweepId(found["name"]))
    url = f"{door.url.rstrip('/')}/{path.entity}/{path.project}/sweeps/{path.sweep_id}"
    return OpenedSweep(path, url, dict(yaml.safe_load(found["config"]) or {}), found["state"])


def _create(door: ServerClient, order: SweepRequest, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    variables = {
        "config": yaml.dump(_with_distributions(order.configuration or {}), Dumper=_Dumper),
        "entity": entity or client_setting("entity", environment).value,
        "project": project or client_setting("project", environment).value,
    }
    return door.ask_graphql(CREATE, variables)["upsertSweep"]["sweep"]


def _find(door: ServerClient, order: SweepRequest, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    name = str(order.sweep_id).rpartition("/")[2]
    variables = {
        "name": name,
        "entity": entity or environment.get("WANDB_ENTITY"),
        "project": project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT,
    }
    answer = door.ask_graphql(_FIND, variables)["project"]
    found = answer and answer["sweep"]
    if not found:
        where = "/".join(filter(None, [variables["entity"], variables["project"], name]))
        raise BackendError(f"{door.url}: there is no sweep {where}")
    if order.reopens and found["state"] == FINISHED:
        return door.ask_graphql(_REOPEN, {"id": name})["upsertSweep"]["sweep"]
    return found


def _with_distributions(configuration: Mapping[str, Any]) -> Any:
    """Return a configuration as the client sends it: where bounds alone are given, with what they mean."""
    plain = json.loads(json.dumps(dict(configuration)))
    for name, parameter in (plain.get("parameters") or {}).items():
        if {"min", "max"} <= parameter.keys() and "distribution" not in parameter:
            parameter["distribution"] = _meant(name, parameter["min"], parameter["max"])
    return plain


def _meant(name: str, least: object, most: object) -> str:
    if isinstance(least, int) and isinstance(most, int):
        return "int_uniform"
    if isinstance(least, float) and isinstance(most, float):
        return "uniform"
    raise BackendError(
        f"parameter {name} is ambiguous: its bounds are to be two floats (uniform) or two ints (int_uniform)"
    )


class _Dumper(yaml.SafeDumper):
    """Writes text that begins with a zero in quotes: "008" would be a number to other readers."""

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        if tag == "tag:yaml.org,2002:str" and value.startswith("0") and len(value) > 1:
            style = "'"
        return super().represent_scalar(tag, value, style)
