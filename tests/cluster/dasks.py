"""A Dask cluster of one's own: a scheduler, and a worker on each of some hosts, which are this one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.cluster.nodes import DEADLINE_S, comes

QUIET: Final = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""It looks after itself less often: else three processes at rest take a tenth of a core."""


class DaskCluster:
    """Its scheduler and workers, each a process."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**env, **QUIET}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, hosts: Sequence[str]) -> None:
        file = self.folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        assert comes(lambda: file.exists() and file.read_text().endswith("}"))
        self.address: str = json.loads(file.read_text())["address"]
        self.workers = {host: self.start_worker(host) for host in hosts}
        logs = [self.folder / f"worker-{host}.log" for host in hosts]
        assert comes(lambda: all("Registered to:" in log.read_text() for log in logs))

    def start_worker(self, host: str) -> subprocess.Popen[bytes]:
        alone = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        return self._start("worker", self.address, "--host", host, *alone, name=f"-{host}")

    def stop(self) -> None:
        for process in self._all:
            process.kill()  # a worker whose scheduler has gone waits for it when it is asked to end
        for process in self._all:
            process.wait(DEADLINE_S)

    def _start(self, kind: str, *words: str, name: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{kind}{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._all.append(process)
        return process


@contextmanager
def running_dask(
    folder: Path,
    env: Mapping[str, str],
    hosts: Sequence[str],
) -> Iterator[DaskCluster]:
    """A cluster whose logs and files are in a folder; none of it outlives the block."""
    made = DaskCluster(folder, env)
    try:
        made.start(hosts)
        yield made
    finally:
        made.stop()
