"""The insides of wandb's client that the worker's pace leans on, each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from wandb.sdk import wandb_run
from wandb.sdk.lib import interrupt

ROOT: Final = Path(__file__).parents[2]

INSTALL: Final = """
import json
from parallel_hpo.worker import agent_patch as pace
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
print(json.dumps({"warnings": warnings, "beat": beat, "sleep": sleep}))
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

STOCK_PACE: Final = "its agents keep their stock pace of a run every 5 s"
STOCK_POLL: Final = "each run starts up to 0.2 s later"


@dataclass(frozen=True)
class OtherClient:
    """A client of wandb's with other insides, as far as the pace looks at them."""

    folder: Path

    def write(self, agent: str | None = AGENT, port_file: str | None = PORT_FILE) -> None:
        for name, source in (("agents/pyagent", agent), ("sdk/lib/service/service_port_file", port_file)):
            path = self.folder / "wandb" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            for package in (path.parents[number] for number in range(len(Path(name).parents))):
                (package / "__init__.py").touch()
            if source is not None:
                path.write_text(source)

    def install(self) -> dict[str, Any]:
        return install(str(self.folder), str(ROOT))


@pytest.fixture
def other_client(tmp_path: Path) -> OtherClient:
    return OtherClient(tmp_path)


def install(*path: str) -> dict[str, Any]:
    """Install the pace in a new interpreter; return what it warned of, and what is in place then."""
    done = subprocess.run(
        [sys.executable, "-c", INSTALL],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.leans_on_wandb
def test_the_installed_client_has_all_that_the_pace_leans_on() -> None:
    assert install(str(ROOT)) == {
        "warnings": [],
        "beat": ["HeartbeatTimer", 5.0],
        "sleep": "parallel_hpo.worker.agent_patch",
    }


@pytest.mark.leans_on_wandb
def test_the_installed_client_stops_a_run_by_the_function_that_the_watch_replaces() -> None:
    assert "interrupt_main" in wandb_run.RunStatusChecker.__init__.__code__.co_names
    assert callable(interrupt.interrupt_main)


def test_a_client_with_the_known_insides_is_paced(other_client: OtherClient) -> None:
    other_client.write()
    assert other_client.install()["warnings"] == []


@pytest.mark.parametrize(
    ("agent", "problem"),
    [
        (None, "no wandb.agents.pyagent.Agent"),
        ("", "no wandb.agents.pyagent.Agent"),
        (AGENT.replace("= 5", "= 7"), "no Agent.HEARTBEAT_SLEEP_SECONDS of 5"),
        (AGENT.replace("HEARTBEAT_SLEEP_SECONDS", "SLEEP_S"), "no Agent.HEARTBEAT_SLEEP_SECONDS of 5"),
        (AGENT.replace("_run_status", "_status"), "an agent without _run_status"),
        (AGENT.replace("_exit(", "_leave("), "an agent without _exit"),
        (AGENT.replace("_run_jobs_from_queue", "_run"), "an agent without _count, _exit_flag, _queue"),
        (
            AGENT.replace("def _heartbeat", "def _beat"),
            "an agent without HEARTBEAT_SLEEP_SECONDS, _run_status",
        ),
    ],
)
def test_a_changed_agent_is_told_of_and_left_at_its_stock_pace(
    other_client: OtherClient, agent: str | None, problem: str
) -> None:
    other_client.write(agent=agent)
    found = other_client.install()
    assert found["warnings"] == [f"this version of wandb has {problem}: {STOCK_PACE}"]
    assert found["beat"] is None or found["beat"][0] in {"int", "NoneType"}
    assert found["sleep"] == "parallel_hpo.worker.agent_patch"


@pytest.mark.parametrize(
    ("port_file", "problem"),
    [
        (None, "no wandb.sdk.lib.service.service_port_file"),
        ("", "no service_port_file._SLEEP"),
        ("_SLEEP = 0.2", "no service_port_file._SLEEP"),
    ],
)
def test_a_changed_wait_for_the_port_file_is_told_of_and_left(
    other_client: OtherClient, port_file: str | None, problem: str
) -> None:
    other_client.write(port_file=port_file)
    found = other_client.install()
    assert found["warnings"] == [f"this version of wandb has {problem}: {STOCK_POLL}"]
    assert found["sleep"] is None
    assert found["beat"] == ["HeartbeatTimer", 5.0]
