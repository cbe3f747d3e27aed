"""A client that sends the wandb client's requests to a sweep server, and functions that fill a server."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
from sqlalchemy import insert, select, update

from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.tables import runs, sweeps

PROJECT: Final = "bench"
HEARTBEAT: Final = """mutation Heartbeat($id: ID!, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, runState: $runState}) { agent { id } commands } }"""
SWEEP: Final = """mutation UpsertSweep($config: String, $project: String) {
  upsertSweep(input: {config: $config, projectName: $project}) { sweep { name } } }"""
AGENT: Final = """mutation CreateAgent($sweep: String!) {
  createAgent(input: {host: "here", sweep: $sweep}) { agent { id } } }"""
RUN: Final = """mutation UpsertBucket($name: String, $sweep: String, $project: String) {
  upsertBucket(input: {name: $name, sweep: $sweep, modelName: $project}) { bucket { id } } }"""
COUNT: Final = "query C($p: String, $n: String) { project(name: $p) { run(name: $n) { historyLineCount } } }"


@dataclass(frozen=True)
class Address:
    """A server's URL, key, process and database file."""

    url: str
    key: str
    pid: int
    database: Path

    def core_s(self) -> float:
        """Return the server's processor time, which other processes don't affect."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


class Client:
    """One persistent connection to the server."""

    def __init__(self, address: Address) -> None:
        url = urlsplit(address.url)
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        token = base64.b64encode(f"api:{address.key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: Any) -> Any:
        """Send a body and return the answer's."""
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer}")
        return answer

    def get(self, path: str) -> Any:
        """Return the answer to a GET request."""
        self._connection.request("GET", path, headers={**self._headers, "Accept-Encoding": "gzip"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")
        return json.loads(gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body)

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request and return its data."""
        answer = self.post("/graphql", {"query": query, "variables": variables})
        if answer.get("errors"):
            raise RuntimeError(f"the server answered {answer['errors']}")
        return answer["data"]

    def new_sweep(self, config: Mapping[str, Any]) -> str:
        """Create a sweep; return its id."""
        data = self.ask(SWEEP, config=json.dumps(config), project=PROJECT)
        return str(data["upsertSweep"]["sweep"]["name"])

    def new_agent(self, sweep: str) -> str:
        """Register an agent; return its id."""
        return str(self.ask(AGENT, sweep=sweep)["createAgent"]["agent"]["id"])

    def new_run(self, name: str, sweep: str | None = None) -> None:
        """Report that a run has started."""
        self.ask(RUN, name=name, sweep=sweep, project=PROJECT)

    def beat(self, agent: str, *listed: str) -> list[dict[str, Any]]:
        """Send a heartbeat and return its commands."""
        data = self.ask(HEARTBEAT, id=agent, runState=json.dumps(dict.fromkeys(listed, True)))
        commands: list[dict[str, Any]] = json.loads(data["agentHeartbeat"]["commands"])
        return commands

    def take(self, sweep: str, agent: str) -> str:
        """Get a run and start it; return its id."""
        (command,) = self.beat(agent)
        name = str(command["run_id"])
        self.new_run(name, sweep)
        return name

    def perform(self, sweep: str, agent: str) -> None:
        """Get a run, start and end it."""
        self.stream(self.take(sweep, agent), "wandb-summary.json", 0, ['{"loss": 1}'], complete=True)

    def stream(self, run: str, file: str, offset: int, lines: list[str], *, complete: bool = False) -> None:
        """Send lines of a run's file; `complete` ends the run."""
        self.send(run, {file: lines}, offset, {"complete": True, "exitcode": 0} if complete else {})

    def send(
        self,
        run: str,
        files: Mapping[str, list[str]],
        offset: int,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Send lines of several files of a run."""
        parts = {file: {"offset": offset, "content": lines} for file, lines in files.items()}
        self.post(f"/files/local/{PROJECT}/{run}/file_stream", {"files": parts, **more})

    def count_lines(self, run: str) -> int:
        """Return the number of stored history lines of a run."""
        return int(self.ask(COUNT, p=PROJECT, n=run)["project"]["run"]["historyLineCount"])


def fill(
    address: Address,
    sweep: str,
    results: Iterator[tuple[dict[str, Any], float]],
    count: int,
    more: Callable[[dict[str, Any], float], dict[str, Any]] = lambda _parameters, _value: {},
) -> None:
    """Add finished runs like the first one to a sweep, in the database, as HTTP would take minutes.

    `results` contains the parameters and metric values of the runs, `more` other fields.
    """
    database = Database.open(str(address.database))
    mine, of_sweep = sweeps.c.id == sweep, runs.c.sweep_id == sweep
    with database.write() as transaction:
        known = transaction.execute(select(sweeps).where(mine)).one()
        query = select(runs).where(of_sweep).order_by(runs.c.id).limit(1)
        first = dict(transaction.execute(query).one()._mapping)
        del first["id"]
        rows = []
        for i in range(count):
            parameters, value = next(results)
            own = {
                "name": f"{sweep}-{i}",
                "sweep_index": known.issued + i,
                "sweep_revision": known.revision + i + 1,
                "assigned": json.dumps(parameters),
                "value": value,
            }
            rows.append(first | own | more(parameters, value))
        if rows:
            transaction.execute(insert(runs), rows)
        totals = {"issued": known.issued + count, "revision": known.revision + count}
        transaction.execute(update(sweeps).where(mine).values(totals))
    database.close()
