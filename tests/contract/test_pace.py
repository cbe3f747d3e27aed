"""The pace of our agents: heartbeats no more frequent than stock ones, and the internals that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
from wandb.sdk import wandb_run
from wandb.sdk.lib import interrupt

from tests.commands import call_command
from tests.contract.proxy import Harm, Message, proxying
from tests.contract.serving import ROOT, Server

INSTALL: Final = """
import json, os, sys
from parallel_hpo.worker import agent_patch as pace

def install(folder):
    sys.path.insert(0, folder)
    warnings = []
    pace.install(warnings.append)
    try:
        from wandb.agents.pyagent import Agent
        name = "HEARTBEAT_SLEEP_SECONDS"
        beat = type(vars(Agent).get(name)).__name__, getattr(Agent, name, None)
    except ImportError:
        beat = None
    try:
        from wandb.sdk.lib.service import service_port_file
        sleep = service_port_file._SLEEP.__module__
    except (ImportError, AttributeError):
        sleep = None
    print(json.dumps({"warnings": warnings, "beat": beat, "sleep": sleep}), flush=True)

for folder in sys.argv[1:]:
    if os.fork() == 0:
        install(folder)
        os._exit(0)
    os.wait()
"""
AGENT: Final = """
class Agent:
    HEARTBEAT_SLEEP_SECONDS = 5

    def _heartbeat(self):
        return self.HEARTBEAT_SLEEP_SECONDS, self._run_status

    def _run_jobs_from_queue(self):
        return self._exit_flag, self._count, self._queue

    def _exit(self):
        pass
"""
PORT_FILE: Final = "from time import sleep as _SLEEP\n"
OTHER_AGENTS: Final = {
    None: "no wandb.agents.pyagent.Agent",
    "": "no wandb.agents.pyagent.Agent",
    AGENT.replace("= 5", "= 7"): "no Agent.HEARTBEAT_SLEEP_SECONDS of 5",
    AGENT.replace("HEARTBEAT_SLEEP_SECONDS", "SLEEP_S"): "no Agent.HEARTBEAT_SLEEP_SECONDS of 5",
    AGENT.replace("_run_status", "_status"): "an agent without _run_status",
    AGENT.replace("_exit(", "_leave("): "an agent without _exit",
    AGENT.replace("_run_jobs_from_queue", "_run"): "an agent without _count, _exit_flag, _queue",
    AGENT.replace("def _heartbeat", "def _b"): "an agent without HEARTBEAT_SLEEP_SECONDS, _run_status",
}
OTHER_PORT_FILES: Final = {
    None: "no wandb.sdk.lib.service.service_port_file",
    "": "no service_port_file._SLEEP",
    "_SLEEP = 0.2": "no service_port_file._SLEEP",
}
OURS: Final = "parallel_hpo.worker.agent_patch"


def write_client(folder: Path, agent: str | None = AGENT, port_file: str | None = PORT_FILE) -> str:
    """Write a client with these internals, and return its folder."""
    for name, source in (("agents/pyagent", agent), ("sdk/lib/service/service_port_file", port_file)):
        path = folder / "wandb" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in (path.parents[number] for number in range(len(Path(name).parents))):
            (package / "__init__.py").touch()
        if source is not None:
            path.write_text(source)
    return str(folder)


def install(*folders: str) -> list[dict[str, Any]]:
    """Install the patch in each of these clients; return its warnings and the patched attributes."""
    done = subprocess.run(
        [sys.executable, "-c", INSTALL, *folders],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.leans_on_wandb
def test_the_installed_client_has_all_internals_that_the_patch_needs() -> None:
    assert install(str(ROOT)) == [{"warnings": [], "beat": ["HeartbeatTimer", 5.0], "sleep": OURS}]


@pytest.mark.leans_on_wandb
def test_the_installed_client_stops_a_run_by_interrupt_main() -> None:
    assert "interrupt_main" in wandb_run.RunStatusChecker.__init__.__code__.co_names
    assert callable(interrupt.interrupt_main)


def test_a_changed_agent_is_reported_and_keeps_its_stock_pace(tmp_path: Path) -> None:
    made = [write_client(tmp_path / str(number), agent) for number, agent in enumerate(OTHER_AGENTS)]
    for found, problem in zip(install(*made), OTHER_AGENTS.values(), strict=True):
        text = f"this version of wandb has {problem}: its agents keep their stock pace of a run every 5 s"
        assert found["warnings"] == [text]
        assert found["beat"] is None or found["beat"][0] in {"int", "NoneType"}
        assert found["sleep"] == OURS


def test_a_changed_port_file_wait_is_reported_and_kept(tmp_path: Path) -> None:
    made = [
        write_client(tmp_path / str(number), port_file=port_file)
        for number, port_file in enumerate(OTHER_PORT_FILES)
    ]
    for found, problem in zip(install(*made), OTHER_PORT_FILES.values(), strict=True):
        text = f"this version of wandb has {problem}: each run starts up to 0.2 s later"
        assert found == {"warnings": [text], "beat": ["HeartbeatTimer", 5.0], "sleep": None}


RUNS, WORKERS = 6, 2
MAIN: Final = """
import wandb

def main():
    wandb.init().log({"loss": 1.0})
"""


def test_our_agents_send_no_more_heartbeats_than_stock_agents(server: Server, tmp_path: Path) -> None:
    """A stock agent sends a heartbeat for each run, and one every 5 s."""
    (tmp_path / "train.py").write_text(MAIN)
    section = {
        "backend": "wandb",
        "workers": WORKERS,
        "count": RUNS,
        "directory": str(tmp_path / "sweeps"),
        "sweep_configuration": {"method": "random", "parameters": {"x": {"value": 1}}},
    }
    (tmp_path / "config.json").write_text(json.dumps({"hpo": section}))
    heartbeats = 0

    def count(message: Message) -> Harm:
        nonlocal heartbeats
        heartbeats += b"agentHeartbeat" in message.body
        return Harm.NONE

    with proxying(server.said["url"]) as proxy:
        proxy.choose = count
        began = time.monotonic()
        done = call_command(
            *("run", "config.json", "train.py:main"),
            folder=tmp_path,
            environment=server.client_env | {"WANDB_BASE_URL": proxy.url},
        )
        took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert RUNS <= heartbeats <= RUNS + WORKERS * (took_s // 5.0)
