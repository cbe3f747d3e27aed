"""A server's logic without HTTP, on a real database, with a clock that stands still; and who talks to it."""

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
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.services.run_transitions import apply_timeouts
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import runs
from parallel_hpo.server.store.database import Database
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from tests.server.kept import StoredSweep, empty_sqlite

MASTER_KEY = "0123456789" * 4
METRIC = {"name": "loss", "goal": "minimize"}
START = 1_000_000.0

Command = dict[str, Any]


def grid(points: int, **more: Any) -> dict[str, Any]:
    """A grid of so many points."""
    parameters = {"x": {"values": list(range(points))}}
    return {"method": "grid", "metric": METRIC, "parameters": parameters} | more


@dataclass
class Clock:
    """Seconds since the epoch, as the test says."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class Services:
    """The server's logic, with verbs for what clients do to it."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    busy_timeout_s: float = 10
    where: str = ""
    """The database's path or URL; none: SQLite in the folder."""
    kept: StoredSweep | None = None
    """A database that is open, and stays so."""

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
        """Be as another process on the same database would be."""
        self.world = AppContext(
            database=self.world.database,
            files=self.world.files,
            master_key=MASTER_KEY,
            clock=self.clock,
            new_id=self.world.new_id,
            new_seed=self.world.new_seed,
            engines=Engines(),
        )

    def sweep(self, config: dict[str, Any], prior_runs: str | None = None) -> str:
        wishes = SweepUpsert(config=yaml.dump(config), project="p", prior_runs_filters=prior_runs)
        return sweep_service.upsert(self.world, wishes).id

    def set_state(self, sweep: str, state: str) -> None:
        sweep_service.upsert(self.world, SweepUpsert(id=sweep, state=state))

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

    def issued(self, agent: str) -> str:
        """Send an idle heartbeat that must bring a run, and return its name."""
        command = self.beat(agent)
        assert command is not None
        assert command["type"] in ("run", "resume")
        name: str = command["run_id"]
        return name

    def begun(self, sweep: str, label: str = "") -> str:
        """Let a new agent take a run, start it, and return its name."""
        name = self.issued(self.agent(sweep, label))
        self.start(sweep, name)
        return name

    def start(self, sweep: str, name: str, opener: str = "") -> None:
        run_service.upsert(self.world, RunUpsert(name=name, sweep=sweep, project="p"), opener=opener)

    def stream(self, name: str, chunk: Chunk) -> bool:
        return file_stream.receive(self.world, RunPath("local", "p", name), chunk)

    def finish(self, sweep: str, name: str, loss: float = 1.0, exitcode: int = 0) -> None:
        self.start(sweep, name)
        self.stream(name, Chunk(summary=json.dumps({"loss": loss}), exitcode=exitcode))

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
