"""Clients of a parallel_hpo server: its own endpoints for sessions (`ServerClient`) and pools (`PoolClient`).

Also creates and finds sweeps on it, as `wandb.sweep()` and `wandb.Api()` would in a child process, which
takes a tenth of a second at each start.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

# Not imported at the first request: at a script's end the import hides that Ctrl-C ended it. Not `requests`,
# which wandb has too: its import would add 21 to 27 ms to every start of a sweep.
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

REQUEST_LIMIT_S: Final = 10.0
GRAPHQL_LIMIT_S: Final = 60.0
"""Timeout in seconds; longer, since a created sweep is synced to disk, and a retry would create another."""
AWAY_LIMIT_S: Final = 60.0
"""Total time to wait for a server that restarts, over all requests, in seconds."""
RETRY_S: Final = 0.1
"""Interval between requests to a server that is starting, in seconds."""
KEPT: Final = 8
"""Number of kept connections to a server, at least the number of threads that use them."""
WANDBS: Final = (".wandb.ai", ".coreweave.com")
"""Hosts of W&B's cloud, which are not asked whether they are parallel_hpo servers."""
HERE: Final = ("127.0.0.1", "localhost", "::1")
_REFUSALS: Final = 300
_SERVERS_FAULT: Final = 500
"""Lowest status after which a request may be retried."""
_NOT_THERE: Final = 404
_ODD: Final = 200

OUR_NAME: Final = "parallel_hpo"
ASK_LIMIT_S: Final = 3.0
"""Timeout of the check for a parallel_hpo server, in seconds; a slower server counts as W&B's."""


class ServerConnection:
    """Sends single requests to a parallel_hpo server with a key, from any thread, over kept connections."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        token = b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None, *, limit_s: float = REQUEST_LIMIT_S) -> Any:
        """Return the answer's JSON.

        Raises:
            ServerRefusedError: the server refuses.
            ServerAwayError: it does not answer within `limit_s` seconds, or can't now.
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
        body = _refusal_in(answer.data)
        message = f"{address}: {body.get('error') or f'HTTP {answer.status} {answer.reason}'}"
        if answer.status >= _SERVERS_FAULT:
            raise ServerAwayError(message)
        raise ServerRefusedError(message, status=answer.status, answer=body)

    @cached_property
    def _connections(self) -> urllib3.PoolManager:
        return connections_to(self.url)


def connections_to(url: str) -> urllib3.PoolManager:
    """Return a pool of connections to a server, through the environment's proxy as for wandb's client.

    Without a proxy for this machine itself.
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
        message = f"{address}: the answer is not JSON, so it is not from a parallel_hpo server"
        raise ServerRefusedError(message, status=_ODD, answer={}) from None


def _refusal_in(data: bytes) -> Mapping[str, Any]:
    """Return a refusal's body; {} if it is not from a parallel_hpo server."""
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


class ServerClient:
    """Sends requests to one server, from any thread; waits while the server restarts."""

    def __init__(
        self,
        key: str,
        closing: threading.Event,
        lost_reason: Callable[[], str | None],
        *,
        away_limit_s: float = AWAY_LIMIT_S,
        url: str = "",
    ) -> None:
        """`closing` ends every wait; `lost_reason` returns why the server is lost, or None.

        `url` may be set later for a server on this machine.
        """
        self.url = url
        self._key = key
        self._closing = closing
        self._lost_reason = lost_reason
        self._away_limit_s = away_limit_s
        self._away_since: float | None = None
        self._server: ServerConnection | None = None

    def ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the answer; None if a GET finds nothing.

        Raises:
            BackendError: the server refuses, or is away for too long, or lost.
        """
        return self._ask(method, f"/hpo/sweeps/{path}{verb}", body, REQUEST_LIMIT_S)

    def ask_graphql(self, document: str, variables: Mapping[str, Any]) -> Any:
        """Return the data of a GraphQL request; raises as `ask`."""
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
                raise BackendError(self._lost_reason() or str(error)) from None
            except ServerAwayError as error:
                if self._lost_reason() or self._closing.is_set() or self._is_away_for_long():
                    raise BackendError(self._lost_reason() or str(error)) from None
                self._closing.wait(RETRY_S)

    def _is_away_for_long(self) -> bool:
        """Record that the server does not answer; return whether to stop waiting."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since > self._away_limit_s


def is_ours(url: str) -> bool:
    """Return whether a parallel_hpo server answers at this address; it needs no key."""
    host = urlsplit(url).hostname or ""
    if f".{host}".endswith(WANDBS):
        return False
    try:
        answer = ServerConnection(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except BackendError:
        return False
    return isinstance(answer, dict) and answer.get("server") == OUR_NAME


POOL_TIMEOUT_S: Final = 5.0
"""Timeout of a request to a pool, in seconds; it may be repeated."""
_CONFLICT: Final = 409


class PoolClient:
    """Sends single requests to one pool with one key, from any thread, without retries.

    All methods raise ServerAwayError without an answer within `limit_s` seconds, and ServerRefusedError
    if the pool refuses, such as for an invalid key.
    """

    def __init__(self, url: str, key: str, sweep: str, *, limit_s: float = POOL_TIMEOUT_S) -> None:
        """`key` is the server's master key, the sweep's key, or a joined node's."""
        self._server = ServerConnection(url, key)
        self._pool = POOL.format(sweep=sweep)
        self._limit_s = limit_s

    def create(self, wanted: NewPool) -> PoolState:
        """Create the pool, or reopen it, and return its state."""
        return read(PoolState, self._ask("POST", "", wanted))

    def facts(self) -> NewPool | None:
        """Return the pool as it was requested, or None."""
        try:
            return read(NewPool, self._ask("GET", ""))
        except ServerRefusedError as error:
            if error.status == _NOT_THERE:
                return None
            raise

    def join(self, request: Join) -> Joined:
        """Join the pool as a node.

        Raises:
            ConfigError: this machine's software differs from the coordinator's.
            PoolOverError: the sweep has ended, or is about to.
        """
        try:
            return read(Joined, self._ask("POST", "/join", request))
        except ServerRefusedError as error:
            if error.status != _CONFLICT:
                raise
            reason = str(error.answer.get("error", error))
            if "ends" in error.answer:
                ends = read(SweepEnd, error.answer["ends"])
                raise PoolOverError(reason, ends_with=ends.exit_code) from None
            raise ConfigError(reason) from None

    def exchange(self, request: Exchange) -> Granted:
        """Send a node's regular request and return the answer."""
        return read(Granted, self._ask("POST", "/exchange", request))

    def leave(self, epoch: int, reason: str) -> None:
        """Report that nothing of the node runs any more."""
        body = {"epoch": epoch, "reason": reason}
        self._server.ask("POST", f"{self._pool}/leave", body, limit_s=self._limit_s)

    def stop(self, ends: SweepEnd) -> None:
        """End the sweep on all nodes."""
        self._ask("POST", "/stop", ends)

    def divide(self, ends: SweepEnd) -> bool:
        """End a pool that no machine has joined, if there is one; return False if one has joined."""
        try:
            self._ask("POST", "/divide", ends)
        except ServerRefusedError as error:
            if error.status not in (_CONFLICT, _NOT_THERE):
                raise
            return error.status == _NOT_THERE
        return True

    def lost(self, lost: NodeLost) -> None:
        """Pass on an engine's report on a node's task."""
        self._ask("POST", "/lost", lost)

    def news(self, event: int, notice: int) -> PoolNews:
        """Return the events and notices after these numbers, as the coordinator's sign of life."""
        return read(PoolNews, self._ask("GET", f"/news?event={event}&notice={notice}"))

    def events(self, event: int) -> PoolNews:
        """Return the events after this number, without being a coordinator's sign of life."""
        return read(PoolNews, self._ask("GET", f"/events?event={event}"))

    def _ask(self, method: str, verb: str, message: Any = None) -> Any:
        body = None if message is None else as_json(message)
        return self._server.ask(method, f"{self._pool}{verb}", body, limit_s=self._limit_s)


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
    client: ServerClient, order: SweepRequest, environment: Mapping[str, str]
) -> OpenedSweep:
    """Create or find a sweep with a client's `environment`; BackendError if it does not exist."""
    found = (_create if order.sweep_id is None else _find)(client, order, environment)
    project = found["project"]
    path = SweepPath(project["entity"]["name"], project["name"], SweepId(found["name"]))
    url = f"{client.url.rstrip('/')}/{path.entity}/{path.project}/sweeps/{path.sweep_id}"
    return OpenedSweep(path, url, dict(yaml.safe_load(found["config"]) or {}), found["state"])


def _create(client: ServerClient, order: SweepRequest, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    variables = {
        "config": yaml.dump(_with_distributions(order.configuration or {}), Dumper=_Dumper),
        "entity": entity or client_setting("entity", environment).value,
        "project": project or client_setting("project", environment).value,
    }
    return client.ask_graphql(CREATE, variables)["upsertSweep"]["sweep"]


def _find(client: ServerClient, order: SweepRequest, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    name = str(order.sweep_id).rpartition("/")[2]
    variables = {
        "name": name,
        "entity": entity or environment.get("WANDB_ENTITY"),
        "project": project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT,
    }
    answer = client.ask_graphql(_FIND, variables)["project"]
    found = answer and answer["sweep"]
    if not found:
        where = "/".join(filter(None, [variables["entity"], variables["project"], name]))
        raise BackendError(f"{client.url}: there is no sweep {where}")
    if order.reopens and found["state"] == FINISHED:
        return client.ask_graphql(_REOPEN, {"id": name})["upsertSweep"]["sweep"]
    return found


def _with_distributions(configuration: Mapping[str, Any]) -> Any:
    """Return a configuration as the client sends it, with the distribution of parameters that lack one."""
    plain = json.loads(json.dumps(dict(configuration)))
    for name, parameter in (plain.get("parameters") or {}).items():
        if {"min", "max"} <= parameter.keys() and "distribution" not in parameter:
            parameter["distribution"] = _inferred(name, parameter["min"], parameter["max"])
    return plain


def _inferred(name: str, least: object, most: object) -> str:
    if isinstance(least, int) and isinstance(most, int):
        return "int_uniform"
    if isinstance(least, float) and isinstance(most, float):
        return "uniform"
    raise BackendError(
        f"parameter {name} is ambiguous: its bounds must be two floats (uniform) or two ints (int_uniform)"
    )


class _Dumper(yaml.SafeDumper):
    """Quotes text that begins with a zero, since other readers take "008" as a number."""

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        if tag == "tag:yaml.org,2002:str" and value.startswith("0") and len(value) > 1:
            style = "'"
        return super().represent_scalar(tag, value, style)
