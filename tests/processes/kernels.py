"""A notebook's kernel: a real one, spoken to as a notebook's frontend does, in an environment of its own."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from tests.commanding import Command, CommandLine
from tests.launching import be_a_session
from tests.ready import READY

DEADLINE_S: Final = 60.0
SETUP: Final = """
import time
from pathlib import Path
import wandb
from parallel_hpo import HPO

folder = Path({folder!r})

def main():
    with wandb.init() as run:
        (folder / run.id).touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
        run.log({{"loss": run.config["x"]}})

def wait_until(condition):
    while not condition():
        time.sleep(0.02)

def are_inside(number):
    return len([each for each in folder.iterdir() if each.name != "go"]) >= number

hpo = HPO.from_dict({{
    "count": 4,
    "workers": 2,
    "backend": "local",
    "directory": {directory!r},
    "sweep_configuration": {{
        "method": "random",
        "metric": {{"name": "loss"}},
        "parameters": {{"x": {{"min": 0.0, "max": 1.0}}}},
    }},
}})
"""
"""A notebook's first cell: runs say in `folder` that they are inside `main`, and wait there for `go`."""


def setup_cell(tmp_path: Path) -> str:
    """Return the first cell of a notebook whose files are here."""
    folder = tmp_path / "inside"
    folder.mkdir()
    return SETUP.format(folder=str(folder), directory=str(tmp_path / "sweeps"))


@dataclass
class Ran:
    """What a cell has put out."""

    printed: str = ""
    """On its stdout; what sweeps say on stderr comes when it comes."""
    said: str = ""
    """On its stderr."""
    error: str = ""
    """The name of the exception that ended it."""
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Displays and their updates, by kind."""

    def take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream" and content["name"] == "stdout":
            self.printed += content["text"]
        elif kind == "stream":
            self.said += content["text"]
        elif kind == "error":
            self.error = content["ename"]
        elif kind in ("display_data", "update_display_data"):
            self.shown.append((kind, content))

    @property
    def last_text(self) -> str:
        """What was shown last."""
        return self.shown[-1][1]["data"]["text/plain"] if self.shown else ""


class Kernel:
    """A running kernel."""

    def __init__(self, process: Command, client: Any) -> None:
        self._process = process
        self._client = client

    def run(
        self, code: str, *, once: Callable[[Ran], bool] = lambda ran: False, then: Callable[[], object] = int
    ) -> Ran:
        """Run a cell to its end; meanwhile, as soon as `once` holds of what has come so far, do `then`."""
        ask = self._client.execute(code)
        ran, is_done = Ran(), False
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not is_done and once(ran):
                is_done = True
                then()
            try:
                message = self._client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                continue
            if (
                message["content"].get("execution_state") == "idle"
                and message["parent_header"]["msg_id"] == ask
            ):
                return ran
            ran.take(message["msg_type"], message["content"])
        raise AssertionError(f"never ended: {code}; {ran}")

    def interrupt(self) -> None:
        """Do what the stop button does: SIGINT to the kernel's process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill the kernel's process, and it alone."""
        self._process.kill()


@contextmanager
def kernel(commands: CommandLine, tmp_path: Path, env: dict[str, str], *, sweeps: int) -> Iterator[Kernel]:
    """A kernel with this environment, whose files are under `tmp_path`, and which starts so many sweeps."""
    place, _ = write_connection_file(str(tmp_path / "kernel.json"))
    words = (READY, str(sweeps), "-m", "ipykernel_launcher", "-f", place)
    process = commands.python(*words, folder=tmp_path, environment=env, before=be_a_session, starts=())
    client: Any = BlockingKernelClient(connection_file=place)
    client.load_connection_file()
    client.start_channels(hb=False)  # who listens for a heart takes a kernel for dead that is slow to begin
    try:
        client.wait_for_ready(timeout=DEADLINE_S)
        yield Kernel(process, client)
    finally:
        client.stop_channels()
        process.kill()
        process.communicate(DEADLINE_S)
