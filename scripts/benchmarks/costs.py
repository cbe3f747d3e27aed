"""The cost of each request to a sweep server: processor time, time with the database's lock, and bytes.

A run's start and end are the real client's; the other requests are those of `asking`. Times are those of the
processes' own clocks, so other load of the machine affects them little.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import create_engine, text

from parallel_hpo.server.store.database import database_url
from scripts.benchmarks import metered
from scripts.benchmarks.asking import Client
from scripts.benchmarks.looking import DATA
from scripts.benchmarks.queueing import Cost
from scripts.benchmarks.scene import EMPTY_SPACE, Scene

ROUNDS: Final = 4
RUNS: Final = 16
"""Runs of a round, which are open at once; each has an agent."""
CLIENTS: Final = 4
"""Clients that send requests at once."""
BEATS: Final = 4
WINDOWS: Final = 6
"""Measurements of a kind of request in a round."""
LINES: Final = 15
"""Lines of a request if a run logs one each second: a stock client sends each 15 s."""
QUIET_S: Final = 1.0
"""Time for a client's last requests to arrive, and until a page's data is read again, in seconds."""
KEYS: Final = ("loss", "accuracy", "lr", "epoch")
METRICS: Final = {f"system.gpu.0.metric{number}": number / 7 for number in range(15)}
SUMMARY: Final = "wandb-summary.json"
HISTORY: Final = "wandb-history.jsonl"
EVENTS: Final = "wandb-events.jsonl"
_POSTGRESQL: Final = (
    "SELECT pg_backend_pid(), pg_current_wal_lsn() - '0/0', pg_database_size(current_database())"
)
_SQLITE: Final = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"


@dataclass(frozen=True)
class Reading:
    """What a server and its database have used so far, or for one request."""

    core_s: float
    writes: float
    """Transactions that need the database's lock."""
    locked_core_s: float
    database_s: float
    """Processor time of PostgreSQL's processes, in seconds; SQLite's is the server's."""
    written: float
    """Bytes: SQLite's and those of uploaded files, or of PostgreSQL's write-ahead log."""
    stored: float
    """Size of the database in bytes."""

    @property
    def cost(self) -> Cost:
        """As the simulation needs it; PostgreSQL works within the transactions, if there are any."""
        locked = round(self.writes) > 0
        return Cost(
            core_s=self.core_s - self.locked_core_s * locked,
            locked_core_s=self.locked_core_s * locked,
            locked_s=self.database_s * locked,
            unlocked_s=self.database_s * (not locked),
            writes=round(self.writes),
        )


def measure(scene: Scene, database: str) -> Mapping[str, Reading]:
    """Return what a request of each kind uses: the least time, because other load only adds to it."""
    server = _Metered(scene, database)
    rounds = [server.measure_round(number) for number in range(ROUNDS)]
    server.close()
    return {kind: _best([each[kind] for each in rounds]) for kind in rounds[0]}


class _Metered:
    """A metered server with a sweep."""

    def __init__(self, scene: Scene, database: str) -> None:
        self._scene = scene
        self._meter = scene.folder / "server.meter"
        self._address = scene.metered_server(self._meter, database)
        self._clients = [Client(self._address) for _ in range(CLIENTS)]
        self._client = self._clients[0]
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._sweep = self._client.new_sweep(EMPTY_SPACE)
        self._engine = create_engine(database_url(database))
        self._step = 0

    def close(self) -> None:
        self._engine.dispose()
        self._threads.shutdown()

    def measure_round(self, number: int) -> dict[str, Reading]:
        agents = [self._client.new_agent(self._sweep) for _ in range(RUNS)]
        runs: list[str] = []
        issued = self._used(RUNS, lambda: runs.extend(self._issue(agent) for agent in agents))
        go = self._scene.folder / f"{number}.go"
        own = {"BENCH_RUNS": json.dumps(runs), "BENCH_SWEEP": self._sweep, "BENCH_GO": str(go)}
        started = self._used(RUNS, lambda: self._start(own))
        readings = {"issue": issued, "start": started} | self._measure_requests(agents, runs)
        return readings | {"end": self._used(RUNS, lambda: self._end(go))}

    def _start(self, own: Mapping[str, str]) -> None:
        at = {"url": self._address.url, "api_key": self._address.key}
        # Long intervals, so that a run's stream has only its first and its last request.
        seldom = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "600", "WANDB_X_STATS_SAMPLING_INTERVAL": "600"}
        self._process = self._scene.bare("several", 1, at, **own, **seldom, WANDB_SILENT="true")
        self._process.journal.wait_for("open")
        time.sleep(QUIET_S)

    def _end(self, go: Path) -> None:
        go.touch()
        self._process.finish()

    def _issue(self, agent: str) -> str:
        (command,) = self._client.beat(agent)
        return str(command["run_id"])

    def _measure_requests(self, agents: list[str], runs: list[str]) -> dict[str, Reading]:
        client, page = self._client, f"{DATA}/{self._sweep}"
        others = [client.take(self._sweep, client.new_agent(self._sweep)) for _ in range(RUNS)]
        beats = partial(self._send, BEATS, lambda client, number: client.beat(agents[number], runs[number]))
        client.get(page)
        return {
            "beat": self._least(BEATS * RUNS, beats),
            "lines": self._least(RUNS, lambda: self._log(others, 1, lines=LINES)),
            "line": self._least(RUNS * LINES, lambda: self._log(others, LINES, lines=1)),
            "page": self._least(RUNS, partial(self._send, 1, lambda client, _number: client.get(page))),
            "update": _best([self._update(page, others) for _ in range(WINDOWS)]),
        }

    def _update(self, page: str, runs: list[str]) -> Reading:
        revision = self._client.get(page)["revision"]
        self._log(runs, 1, lines=1)
        time.sleep(QUIET_S)
        return self._used(1, lambda: self._client.get(f"{page}?since={revision}"))

    def _log(self, runs: list[str], requests: int, *, lines: int) -> None:
        """Send requests with history lines and the summary; metrics come with each LINES lines."""
        for number in range(requests):
            rows = [json.dumps(_row(self._step + i)) for i in range(lines)]
            files: dict[str, list[str]] = {HISTORY: rows, SUMMARY: rows[-1:]}
            if (number + 1) * lines % LINES == 0:
                files[EVENTS] = [json.dumps(METRICS | {"_timestamp": time.time(), "_runtime": self._step})]
            send = partial(Client.send, files=files, offset=self._step)
            self._send(1, lambda client, number: send(client, runs[number]))  # noqa: B023
            self._step += lines

    def _send(self, times: int, request: Callable[[Client, int], object]) -> None:
        """Send a request for the number of each run, from several clients at once."""

        def send(first: int) -> None:
            for number in list(range(first, RUNS, CLIENTS)) * times:
                request(self._clients[first], number)

        list(self._threads.map(send, range(CLIENTS)))

    def _least(self, requests: int, work: Callable[[], object]) -> Reading:
        return _best([self._used(requests, work) for _ in range(WINDOWS)])

    def _used(self, requests: int, work: Callable[[], object]) -> Reading:
        before = self._read()
        work()
        pairs = zip(astuple(self._read()), astuple(before), strict=True)
        return Reading(*((after - begin) / requests for after, begin in pairs))

    def _read(self) -> Reading:
        meter, pid = metered.read(self._meter), self._address.pid
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                own, written, stored = connection.execute(text(_POSTGRESQL)).one()
                folder = Path(str(self._engine.url.query["host"]))
                main = int((folder / "data" / "postmaster.pid").read_text().split()[0])
                others = [each.pid for each in psutil.Process(main).children() if each.pid != own]
            else:
                others, written = [], psutil.Process(pid).io_counters().write_chars
                stored = connection.scalar(text(_SQLITE))
        database_s = sum(map(_core_s, others))
        return Reading(_core_s(pid), meter.writes, meter.core_s, database_s, float(written), float(stored))


def _row(step: int) -> dict[str, float]:
    return dict.fromkeys(KEYS, 1 / (step + 1)) | {
        "_step": step,
        "_timestamp": 1.8e9 + step,
        "_runtime": float(step),
    }


def _core_s(pid: int) -> float:
    """Return a process's processor time; Linux has a clock of it, finer than that of /proc."""
    return time.clock_gettime(~pid << 3 | 2)


def _best(readings: Sequence[Reading]) -> Reading:
    """Return the reading with the least time, and the medians of what isn't a time."""
    middle = Reading(*map(statistics.median, zip(*map(astuple, readings), strict=True)))
    least = min(readings, key=lambda reading: reading.core_s + reading.database_s)
    return replace(least, writes=middle.writes, written=middle.written, stored=middle.stored)
