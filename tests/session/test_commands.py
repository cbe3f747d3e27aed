from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import closing
from pathlib import Path

import psutil

from parallel_hpo.config.section import parse_section
from parallel_hpo.core.notices import Notice
from parallel_hpo.core.types import StopKind, Target
from parallel_hpo.session.hooks import Commands, notify_end
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.signals import Control
from tests.analysis.sweeps import result_of


def commands(folder: Path, limit_s: float = 30.0) -> Commands:
    return Commands(os.environ, str(folder), limit_s=limit_s)


def test_a_command_runs_in_the_launch_folder_and_reads_its_input(tmp_path: Path) -> None:
    told = json.dumps({"a": "x" * 1_000_000})
    assert commands(tmp_path).run(("sh", "-c", "cat > told"), told) == ""
    assert (tmp_path / "told").read_text() == told
    assert commands(tmp_path).run(("true",), told) == "", "it need not read"


def test_a_failure_is_reported_by_its_exit_and_last_line_of_output(tmp_path: Path) -> None:
    assert (
        commands(tmp_path).run((sys.executable, "-c", "raise OSError('away')"), "") == "exit 1: OSError: away"
    )
    assert commands(tmp_path).run(("sh", "-c", "kill -TERM $$"), "") == "SIGTERM"


def test_a_command_is_killed_with_its_children_after_its_timeout(tmp_path: Path) -> None:
    """A child of its own holds its output open: that is not waited for either."""
    why = commands(tmp_path, limit_s=0.5).run(("sh", "-c", "sleep 1000 & echo $! > child; wait"), "")
    assert why == "killed after 0.5 s"
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == int((tmp_path / "child").read_text())], 5)
    assert not psutil.pid_exists(int((tmp_path / "child").read_text()))


def test_giving_up_kills_the_running_command_and_starts_no_other(tmp_path: Path) -> None:
    running = commands(tmp_path)
    why: list[str] = []
    thread = threading.Thread(
        target=lambda: why.append(running.run(("sh", "-c", "echo > on; sleep 1000"), ""))
    )
    thread.start()
    while not (tmp_path / "on").exists():
        thread.join(0.01)
    running.give_up()
    thread.join(10)
    assert why == ["killed: the sweep was stopped"]
    assert running.run(("sh", "-c", "echo > again"), "") == "not run: the sweep was stopped"
    assert not (tmp_path / "again").exists()


def test_on_end_runs_even_after_a_stop_of_the_sweep(tmp_path: Path) -> None:
    section = parse_section(
        {"sweep_id": "s", "on_end": ["sh", "-c", "cat > told"]}, origin=lambda key: "config.json"
    )
    told: list[Notice] = []
    with closing(Control()) as control:
        control.stop(StopKind.INTERRUPT)
        setting = LaunchSettings(
            section=section, main=Target("train", "main"), observer=told.append, control=control
        )
        notify_end(result_of([]), setting, commands(tmp_path))
    assert (json.loads((tmp_path / "told").read_text())["sweep_id"], told) == ("abc", [])
