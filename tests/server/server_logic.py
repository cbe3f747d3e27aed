"""A server's logic without HTTP, on a real database with a manual clock, and verbs for its clients."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from parallel_hpo.server import removal
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.engines import AskFirstError, Engines
from parallel_hpo.server.services import agents as agent_service
from parallel_hpo.server.services import file_stream, supervision
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.services.run_transitions import apply_timeouts
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from tests.server.shared_database import KeptDatabase, empty_sqlite

MASTER_KEY = "0123456789" * 4
METRIC = {"name": "loss", "goal": "minimize"}
START = 1_000_000.0
SILENCE_S = 301
"""One second longer than a run may be silent."""

Command = dict[str, Any]


def grid(points: int, **more: Any) -> dict[str, Any]:
    """Return the configuration of a grid of so many points."""
    parameters = {"x": {"values": list(range(points))}}
    return {"method": "grid", "metric": METRIC, "parameters": parameters} | more


@dataclass
class Clock:
    """Seconds since the epoch, set by the test."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Services:
    """The server's logic, with verbs for what clients do to it.

    `where` is the database's path or URL, SQLite in the folder if empty; `kept` is one that stays open.
    """

    folder: Path
    clock: Clock = field(default_factory=Clock)
    busy_timeout_s: float = 10
    where: str = ""
    kept: KeptDatabase | None = None

    def __post_init__(self) -> None:
        ids = itertools.count()
        self.world = AppContext(
            database=self._opened(),
            files=self.folder / "server-files",
            master_key=MASTER_KEY,
            clock=self.clock,
            new_id=lambda: f"id{next(ids):06d}",
            new_seed=lambda: 7,
        )

    def _opened(self) -> Database:
        if self.kept is not None:
            self.where = self.kept.where
            return self.kept.database
        if not self.where:
            path = self.folder / "server.db"
            self.where = str(path)
            if not path.exists():
                path.write_bytes(empty_sqlite())
        return Database.open(self.where, busy_timeout_s=self.busy_timeout_s)

    def close(self) -> None:
        if self.kept is None:
            self.world.database.close()

    def forget_engines(self) -> None:
        """Act as another process on the same database."""
        self.world = replace(self.world, engines=Engines())

    def sweep(self, config: dict[str, Any], prior_runs: str | None = None) -> str:
        wishes = SweepUpsert(config=yaml.dump(config), project="p", prior_runs_filters=prior_runs)
        return sweep_service.upsert(self.world, wishes).id

    def change_sweep(self, sweep: str, config: dict[str, Any]) -> None:
        """Give a sweep another configuration while it is paused."""
        self.set_state(sweep, "PAUSED")
        changed = SweepUpsert(id=sweep, config=yaml.dump(config), state="RUNNING")
        sweep_service.upsert(self.world, changed)

    def set_state(self, sweep: str, state: str) -> None:
        sweep_service.upsert(self.world, SweepUpsert(id=sweep, state=state))

    def state(self, sweep: str) -> str:
        return self.progress(sweep).state

    def enqueue(self, sweep: str, **parameters: Any) -> str:
        return sweep_service.enqueue(self.world, sweep, json.dumps(parameters), None)

    def agent(self, sweep: str, label: str = "") -> str:
        return agent_service.register(self.world, sweep, "host", label).id

    def beat(self, agent: str, *listed: str) -> Command | None:
        """Send a heartbeat and return its command, if any; a model is asked first, as `executing` does."""
        world = self.world
        while True:
            try:
                commands = agent_service.answer_heartbeat(world, agent, frozenset(listed))
            except AskFirstError as first:
                world = replace(world, asked=world.engines.ask(world.database, first.sweep_id))
                continue
            assert len(commands) <= 1
            return commands[0] if commands else None

    def command(self, agent: str, *listed: str) -> Command:
        """Send a heartbeat that must bring a run, and return its command."""
        command = self.beat(agent, *listed)
        assert command is not None
        assert command["type"] in ("run", "resume")
        return command

    def issued(self, agent: str) -> str:
        """Send an idle heartbeat that must bring a run, and return its name."""
        name: str = self.command(agent)["run_id"]
        return name

    def begun(self, sweep: str, label: str = "") -> str:
        """Let a new agent take a run, start it, and return its name."""
        name = self.issued(self.agent(sweep, label))
        self.start(sweep, name)
        return name

    def perform(self, sweep: str, agent: str) -> str:
        """Take a run, start it, finish it."""
        name = self.issued(agent)
        self.finish(sweep, name)
        return name

    def points(self, agent: str, sweep: str) -> list[Any]:
        """Take and finish runs until the sweep is used up, and return the values of x in their order."""
        found = []
        while (command := self.beat(agent)) is not None and command["type"] == "run":
            found.append(command["args"]["x"]["value"])
            self.finish(sweep, command["run_id"])
        return found

    def upsert(self, name: str, opener: str = "", **wishes: Any) -> Run:
        """Begin or change a run, which has no sweep unless one is given."""
        wanted = RunUpsert(name=name, **{"project": "p"} | wishes)
        return run_service.upsert(self.world, wanted, opener=opener).bucket

    def edit(self, name: str, **wishes: Any) -> Run:
        """Change a run by its key, as the Public API does."""
        return run_service.upsert(self.world, RunUpsert(id=self.run(name).id, **wishes)).bucket

    def start(self, sweep: str, name: str, opener: str = "") -> None:
        self.upsert(name, opener, sweep=sweep)

    def stream(self, name: str, chunk: Chunk) -> bool:
        return file_stream.receive(self.world, RunPath("local", "p", name), chunk)

    def log(
        self, name: str, *rows: Any, summary: dict[str, Any] | None = None, exitcode: int | None = None
    ) -> bool:
        """Append rows, and return whether the run is asked to stop.

        A row that is not a dictionary is a loss at the next step.
        """
        begin = self.run(name).history_lines
        whole = [
            row if isinstance(row, dict) else {"_step": step, "loss": row}
            for step, row in enumerate(rows, begin)
        ]
        batch = Batch(Stream.HISTORY, begin, tuple(map(json.dumps, whole)))
        told = None if summary is None else json.dumps(summary)
        return self.stream(name, Chunk((batch,), summary=told, exitcode=exitcode))

    def end(self, name: str, exitcode: int = 0, summary: str | None = None) -> None:
        self.stream(name, Chunk(summary=summary, exitcode=exitcode))

    def finish(self, sweep: str, name: str, loss: float = 1.0, exitcode: int = 0) -> None:
        self.start(sweep, name)
        self.end(name, exitcode, json.dumps({"loss": loss}))

    def request_stop(self, name: str) -> None:
        run_service.request_stop(self.world, self.run(name).id)

    def delete(self, name: str) -> None:
        removal.delete_run(self.world, self.run(name).id, with_artifacts=False)

    def run(self, name: str) -> Run:
        with self.world.database.read() as transaction:
            run = runs.at(transaction, RunPath("local", "p", name))
        assert run is not None
        return run

    def progress(self, sweep: str) -> supervision.SweepProgress:
        return supervision.progress(self.world, self.at(sweep))

    def at(self, sweep: str) -> SweepAt:
        return SweepAt("local", "p", sweep)

    def release(self, sweep: str, prefix: str, *keep: str) -> list[str]:
        return supervision.release(self.world, self.at(sweep), prefix, frozenset(keep))

    def apply_timeouts(self) -> list[str]:
        return apply_timeouts(self.world, up_since=START)

    def fall_silent(self) -> list[str]:
        """Let time pass without any message, and return the runs that timed out."""
        self.clock.now += SILENCE_S
        return self.apply_timeouts()
