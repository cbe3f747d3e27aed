"""A notebook's kernel: a real one, spoken to as a notebook's frontend does."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from tests.commands import Started, start_python
from tests.processes.conftest import DEADLINE_S

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

def wait_until_inside(number):
    while len([each for each in folder.iterdir() if each.name != "go"]) < number:
        time.sleep(0.02)

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
"""A notebook's first cell: runs write to `folder` that they are inside `main`, and wait there for `go`."""


def setup_cell(tmp_path: Path) -> str:
    """Return the first cell of a notebook whose files are here."""
    folder = tmp_path / "inside"
    folder.mkdir()
    return SETUP.format(folder=str(folder), directory=str(tmp_path / "sweeps"))


def runs_inside(tmp_path: Path) -> int:
    return sum(1 for each in (tmp_path / "inside").iterdir() if each.name != "go")


@dataclass
class Ran:
    """The output of a cell."""

    printed: str = ""
    error: str = ""
    """The name of the exception that ended it."""

    def take(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream" and content["name"] == "stdout":
            self.printed += content["text"]
        elif kind == "error":
            self.error = content["ename"]


class Kernel:
    """A running kernel."""

    def __init__(self, process: Started, client: Any) -> None:
        self.process = process
        self._client = client

    def run(self, code: str, *, interrupted_once: Callable[[], bool] = lambda: False) -> Ran:
        """Run a cell to its end; interrupt it as soon as the condition holds."""
        asked = self._client.execute(code)
        ran, is_done = Ran(), False
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if not is_done and interrupted_once():
                is_done = True
                os.killpg(self.process.pid, signal.SIGINT)  # what the stop button does
            try:
                message = self._client.get_iopub_msg(timeout=0.05)
            except queue.Empty:
                continue
            is_over = message["content"].get("execution_state") == "idle"
            if is_over and message["parent_header"]["msg_id"] == asked:
                return ran
            ran.take(message["msg_type"], message["content"])
        raise AssertionError(f"never ended: {code}; {ran}")


@contextmanager
def running_kernel(folder: Path, env: dict[str, str]) -> Iterator[Kernel]:
    """A kernel with this environment, whose files are in `folder`."""
    place, _ = write_connection_file(str(folder / "kernel.json"))
    words = ("-m", "ipykernel_launcher", "-f", place)
    process = start_python(*words, folder=folder, environment=env, own_session=True)
    client: Any = BlockingKernelClient(connection_file=place)
    client.load_connection_file()
    client.start_channels(hb=False)  # a heartbeat takes a kernel that starts slowly for dead
    try:
        client.wait_for_ready(timeout=DEADLINE_S)
        yield Kernel(process, client)
    finally:
        client.stop_channels()
        process.kill()
        process.communicate(timeout=DEADLINE_S)
