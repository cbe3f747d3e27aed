"""A Dask cluster of one's own: a scheduler, and a worker on each of some hosts, which are this one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cluster.nodes import DEADLINE_S, comes
from tests.commanding import Command, CommandLine

QUIET: Final = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""It looks after itself less often: else three processes at rest take a tenth of a core."""


class DaskCluster:
    """Its processes are forks; `starts` are the modules of which its workers have spares."""

    def __init__(
        self, commands: CommandLine, folder: Path, env: Mapping[str, str], starts: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.env = {**env, **QUIET}
        self.workers: dict[str, Command] = {}
        self._commands = commands
        self._starts = starts
        self._all: list[Command] = []

    def start(self, hosts: Sequence[str]) -> None:
        file = self.folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        assert comes(lambda: file.exists() and file.read_text().endswith("}"))
        self.address: str = json.loads(file.read_text())["address"]
        self.workers = {host: self.start_worker(host) for host in hosts}
        logs = [self.folder / f"worker-{host}.log" for host in hosts]
        assert comes(lambda: all("Registered to:" in log.read_text() for log in logs))

    def start_worker(self, host: str) -> Command:
        alone = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        return self._start("worker", self.address, "--host", host, *alone, name=f"-{host}")

    def stop(self) -> None:
        for process in self._all:
            process.kill()  # a worker whose scheduler has gone waits for it when it is asked to end
        for process in self._all:
            process.wait(DEADLINE_S)

    def _start(self, kind: str, *words: str, name: str = "") -> Command:
        with (self.folder / f"{kind}{name}.log").open("ab") as log, Path(os.devnull).open() as nothing:
            process = self._commands.onto(
                *("-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"),
                streams=[nothing.fileno(), log.fileno(), log.fileno()],
                folder=self.folder,
                environment=self.env,
                starts=self._starts if kind == "worker" else (),
            )
        self._all.append(process)
        return process


@contextmanager
def running_dask(
    commands: CommandLine,
    folder: Path,
    env: Mapping[str, str],
    hosts: Sequence[str],
    starts: Sequence[str] = (),
) -> Iterator[DaskCluster]:
    """A cluster whose logs and files are in a folder; none of it outlives the block."""
    made = DaskCluster(commands, folder, env, starts)
    try:
        made.start(hosts)
        yield made
    finally:
        made.stop()
