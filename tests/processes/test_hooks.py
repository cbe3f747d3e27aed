"""Effects of the end of a sweep and of a failed run: `on_end`, `on_failure`, `notify`, the run's folder."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.processes.conftest import RealSweep, comes, grid
from tests.threads import answering_in_a_thread

KEEP: Final = """
import sys
print(sys.stdin.read().replace("\\n", ""), file=open(sys.argv[1], "a"))
sys.exit("no such luck")
"""
"""A command's program that appends its input to a file, a line each time, and fails."""


def keep(file: Path) -> list[str]:
    return [sys.executable, "-c", KEEP, str(file)]


def kept(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@dataclass(frozen=True)
class Mixed:
    """A sweep with a finished run and three that failed."""

    sweep: RealSweep
    notified: list[Any]
    """What Apprise sent."""

    @property
    def bad(self) -> dict[str, Any]:
        """The runs that did not finish, by their parameter `how`."""
        runs = self.sweep.ended.summary["runs"]
        return {run["parameters"]["how"]: run for run in runs if run["outcome"] != "finished"}

    def folder_of(self, how: str) -> Path:
        return self.sweep.directory / self.sweep.sweep_id / "failed" / str(self.bad[how]["run_id"])


@pytest.fixture(scope="module")
def mixed(new_sweep: Callable[[], RealSweep]) -> Mixed:
    sweep, notified = new_sweep(), []
    sweep.env |= {"MY_Api_Key": "s3cret-1", "TOKEN_OF": "s3cret-2", "DB": "postgresql://me:s3cret-3@host/x"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notified.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with answering_in_a_thread(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        sweep.start(
            "mixed",
            sweep=grid(how=["well", "fail", "exit", "die"]),
            on_end=keep(sweep.folder / "end.jsonl"),
            on_failure=keep(sweep.folder / "failures.jsonl"),
            notify=[f"json://127.0.0.1:{server.server_port}/x"],
        ).finish()
    return Mixed(sweep, notified)


def test_on_end_gets_the_summary_and_its_failure_is_reported(mixed: Mixed) -> None:
    assert kept(mixed.sweep.folder / "end.jsonl") == [mixed.sweep.ended.summary]
    assert "warning: on_end: exit 1: no such luck" in mixed.sweep.ended.stderr


def test_on_failure_gets_each_failed_run_once_and_its_failure_is_reported(mixed: Mixed) -> None:
    place = {"sweep_id": mixed.sweep.sweep_id}
    expected = [run | place | {"folder": str(mixed.folder_of(how))} for how, run in mixed.bad.items()]
    told = kept(mixed.sweep.folder / "failures.jsonl")
    assert len(told) == 3
    assert all(run in told for run in expected)
    for run in expected:
        words = f"warning: on_failure for run {run['run_id']}: exit 1: no such luck"
        assert words in mixed.sweep.ended.stderr


def test_a_failed_runs_folder_contains_the_reason_and_no_secrets(mixed: Mixed) -> None:
    folder = mixed.folder_of("fail")
    assert json.loads((folder / "parameters.json").read_text()) == {"how": "fail"}
    assert (folder / "reason.txt").read_text() == "failed: ValueError: this one fails\n"
    assert 'raise ValueError("this one fails")' in (folder / "traceback.txt").read_text()
    lines = (folder / "output.log").read_text().splitlines()
    assert (len(lines), "line 249 of fail" in lines) == (200, True)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["PARALLEL_HPO_RUN_ID"] == mixed.bad["fail"]["run_id"]
    assert environment["DB"] == "postgresql://…@host/x"
    assert not any("s3cret" in path.read_text() for path in folder.iterdir())


def test_a_runs_last_output_is_in_its_folder_its_workers_log_and_on_stderr(mixed: Mixed) -> None:
    folder = mixed.folder_of("die")
    assert (folder / "reason.txt").read_text() == "crashed: SIGKILL\n"
    assert "line 249 of die" in (folder / "output.log").read_text().splitlines()
    assert "] ValueError: this one fails" in mixed.sweep.ended.stderr
    assert mixed.sweep.printed("ValueError: this one fails") == 1


def test_notify_sends_a_message_at_the_end_of_a_sweep(mixed: Mixed) -> None:
    (message,) = mixed.notified
    assert message["title"] == f"sweep {mixed.sweep.sweep_id}: 1 of 4 runs finished, 3 failed"
    assert mixed.sweep.ended.summary["best"]["run_id"] in message["message"]


def test_a_second_stop_ends_the_hook_of_a_stopped_sweep(sweep: RealSweep) -> None:
    mark = sweep.folder / "mark"
    sweep.env["MARK"] = str(mark)
    sweep.start("sleeper", count=4, on_end="""sh -c 'echo $$ > "$MARK"; sleep 1000'""").wait_for(2)
    sweep.signal(signal.SIGINT)
    sweep.wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), "on_end")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert (ended.code, "on_end and notify: cut short by another stop" in ended.stderr) == (130, True)
    hook = int(mark.read_text())  # it is killed; whoever inherits it has yet to reap it
    assert comes(lambda: not psutil.pid_exists(hook))
