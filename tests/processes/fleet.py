"""One sweep on several machines: network namespaces (`tests.namespaces`), each with a folder of its own.

The sweep server is on this machine, and a node on each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.namespaces import Machine, Network
from tests.processes.under_fire import RETRIES, ROOT, TARGET

NODE_TIMEOUT_S: Final = 10.0
PORT: Final = 8197


@dataclass(slots=True)
class Fleet:
    """A server, machines, and the sweep that they perform."""

    folder: Path
    runs: int
    net: Network
    sweep_id: str = ""
    key: str = ""
    server: subprocess.Popen[bytes] | None = None
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    """The exit codes of nodes that left by themselves."""

    @property
    def journals(self) -> Path:
        return self.folder / "journals"

    @property
    def database(self) -> Path:
        return self.folder / "server" / "server.db"

    def open(self) -> None:
        """Start the server, create the sweep, and start a node on each machine."""
        self.journals.mkdir(parents=True)
        self.start_server()
        config = self.folder / "config.json"
        config.write_text(json.dumps({"hpo": self._section()}))
        command = [sys.executable, "-m", "parallel_hpo", "run", str(config), f"{TARGET}:main", "--create"]
        created = subprocess.run(
            command, env=self._environment("head"), cwd=self.folder, check=True, stdout=subprocess.PIPE
        )
        self.sweep_id = created.stdout.decode().strip()
        for machine in self.net.machines:
            self.start_node(machine)

    def start_server(self) -> None:
        self.database.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "parallel_hpo", "server", "--host", self.net.address]
        command += ["--port", str(PORT), "--database", str(self.database)]
        self._hang_up()
        with (self.folder / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                command, env=self._environment("server"), stdout=subprocess.PIPE, stderr=log
            )
        assert self.server.stdout is not None
        self.key = json.loads(self.server.stdout.readline())["api_key"]

    def _hang_up(self) -> None:
        """Close the line to a server that has ended."""
        if self.server is not None:
            assert self.server.stdout is not None
            self.server.stdout.close()

    def start_node(self, machine: Machine) -> None:
        home = self.folder / machine.name
        home.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "parallel_hpo", "join", self.sweep_id, "--name", machine.name]
        command += ["--directory", str(home / "sweeps")]
        with (home / "log").open("ab") as log:
            self.nodes[machine.name] = machine.popen(
                command, self._environment(machine.name), cwd=home, stdout=log, stderr=log
            )

    def _section(self) -> dict[str, Any]:
        return {
            "count": self.runs,
            "workers": 2,
            "retries": RETRIES,
            "restart": {"max_restarts": 1000, "backoff_s": 0.1, "backoff_max_s": 0.5},
            "failures": {"max_initial": None},
            "machines": {"node_timeout_s": NODE_TIMEOUT_S},
            "sweep_configuration": {
                "method": "grid",
                "metric": {"name": "loss"},
                "parameters": {"x": {"values": list(range(self.runs))}},
            },
        }

    def _environment(self, name: str) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "PARALLEL_HPO_"))}
        path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")]))
        own |= {"PYTHONPATH": path, "HOME": str(self.folder / name), "JOURNALS": str(self.journals)}
        own |= {"NEVER_OFFLINE": "1"}
        if name != "server":
            own |= {"WANDB_BASE_URL": f"http://{self.net.address}:{PORT}", "WANDB_API_KEY": self.key}
        return own

    def living(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.poll() is None]

    def processes(self, machine: str | None = None) -> list[psutil.Process]:
        """Return what lives with a machine's home, or with any of them."""
        homes = {
            str(self.folder / name) for name in ([machine] if machine else [*self.nodes, "head", "server"])
        }
        return [process for process in psutil.process_iter() if _home(process) in homes]

    def workers(self) -> list[psutil.Process]:
        """Return the workers of all machines: the children of their fork servers."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if "PARALLEL_HPO_WORKER" in process.environ() and process.name() != "wandb-core":
                    found.append(process)
        return found

    def kill(self) -> None:
        """End whatever is left of it."""
        for process in (left := self.processes()):
            with suppress(psutil.Error):
                process.kill()
        for child in [*self.nodes.values(), *([self.server] if self.server else [])]:
            child.wait()
        self._hang_up()
        psutil.wait_procs(left, timeout=5.0)


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except (psutil.Error, OSError):
        return None
