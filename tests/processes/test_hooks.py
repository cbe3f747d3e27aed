"""What the end of a sweep and of a failed run set off: `on_end`, `on_failure`, `notify`, the run's folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from parallel_hpo.session.decide.stopping import seed_of
from tests.processes.conftest import DEADLINE_S, PerformedRuns, RealSweep, outcomes
from tests.threads import answering_in_a_thread

MAINS: Final = Path(__file__).with_name("after_runs.py")
KEEP: Final = "import sys; print(sys.stdin.read().replace('\\n', ''), file=open(sys.argv[1], 'a'))"
"""A command's program that keeps in a file what it is told, a line each time."""


def grid(*how: str) -> dict[str, Any]:
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": {"how": {"values": list(how)}}}


def keep(file: Path) -> list[str]:
    return [sys.executable, "-c", KEEP, str(file)]


def kept(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def by_id(runs: list[Any]) -> list[Any]:
    return sorted(runs, key=lambda run: str(run["run_id"]))


@dataclass(frozen=True)
class Mixed(PerformedRuns):
    """A sweep with a run that went well and three that did not, of all of which somebody was told."""

    received: list[Any]
    """By whom is notified."""

    @property
    def bad(self) -> dict[str, Any]:
        """The runs that did not go well, by how they went instead."""
        runs = self.ended.summary["runs"]
        return {run["parameters"]["how"]: run for run in runs if run["outcome"] != "finished"}

    def folder_of(self, how: str) -> Path:
        return self.failed_runs / str(self.bad[how]["run_id"])

    @property
    def failed_runs(self) -> Path:
        return self.sweep.directory / str(self.ended.summary["sweep_id"]) / "failed"


@pytest.fixture(scope="module")
def mixed(new_sweep: Callable[[], RealSweep]) -> Mixed:
    sweep = new_sweep()
    sweep.env |= {"MY_Api_Key": "s3cret-1", "TOKEN_OF": "s3cret-2", "DB": "postgresql://me:s3cret-3@host/x"}
    with receiver() as (port, received):
        ended = sweep.start(
            "mixed",
            mains=MAINS,
            sweep=grid("well", "fail", "exit", "die"),
            seed=1,
            on_end=keep(sweep.folder / "end.jsonl"),
            on_failure=keep(sweep.folder / "failures.jsonl"),
            notify=[f"json://127.0.0.1:{port}/x"],
        ).finish()
    return Mixed(sweep, ended, received)


def test_on_end_is_told_what_the_summary_says(mixed: Mixed) -> None:
    assert kept(mixed.sweep.folder / "end.jsonl") == [mixed.ended.summary]


def test_on_failure_is_told_of_each_failed_run_once(mixed: Mixed) -> None:
    assert len(mixed.bad) == 3
    place = {"sweep_id": mixed.ended.summary["sweep_id"]}
    expected = [run | place | {"folder": str(mixed.folder_of(how))} for how, run in mixed.bad.items()]
    assert by_id(kept(mixed.sweep.folder / "failures.jsonl")) == by_id(expected)


def test_a_failed_run_has_a_folder_that_says_why(mixed: Mixed) -> None:
    failed, folder = mixed.bad["fail"], mixed.folder_of("fail")
    assert {path.name for path in mixed.failed_runs.iterdir()} == {
        run["run_id"] for run in mixed.bad.values()
    }
    assert json.loads((folder / "parameters.json").read_text()) == {"how": "fail"}
    assert (folder / "reason.txt").read_text() == "failed: ValueError: this one fails\n"
    traceback = (folder / "traceback.txt").read_text()
    assert 'raise ValueError("this one fails")' in traceback
    assert traceback.endswith("ValueError: this one fails\n")
    lines = (folder / "output.log").read_text().splitlines()
    assert len(lines) == 200
    assert "line 249 of fail" in lines
    assert "line 0 of fail" not in lines
    assert {"wandb", "parallel_hpo"} <= {
        line.partition("==")[0] for line in (folder / "packages.txt").read_text().splitlines()
    }
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["PARALLEL_HPO_RUN_ID"] == failed["run_id"]
    assert environment["PARALLEL_HPO_SEED"] == str(seed_of(1, index=1)), "it is the grid's second run"
    assert environment["DB"] == "postgresql://…@host/x"
    assert not {"MY_Api_Key", "TOKEN_OF", "WANDB_API_KEY"} & environment.keys()
    assert not any("s3cret" in path.read_text() for path in folder.iterdir())


def test_a_run_that_was_killed_has_its_last_lines_too(mixed: Mixed) -> None:
    folder = mixed.folder_of("die")
    assert (folder / "reason.txt").read_text() == "crashed: SIGKILL\n"
    assert "line 249 of die" in (folder / "output.log").read_text().splitlines()
    assert json.loads((folder / "environment.json").read_text())["PARALLEL_HPO_ATTEMPT"] == "2"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo no such luck; exit 3'", "exit 3: no such luck"),
        ("no-such-program --at all", "can't be started: "),
    ],
)
def test_a_command_that_fails_changes_nothing_and_is_said(sweep: RealSweep, command: str, why: str) -> None:
    sweep.start("mixed", mains=MAINS, sweep=grid("well", "fail"), on_end=command, on_failure=command)
    ended = sweep.finish()
    assert (ended.code, sorted(outcomes(ended.summary))) == (0, ["failed", "finished"])
    assert json.loads(ended.stdout) == ended.summary
    assert f"warning: on_end: {why}" in ended.stderr
    (failed,) = [run["run_id"] for run in ended.summary["runs"] if run["outcome"] == "failed"]
    assert f"warning: on_failure for run {failed}: {why}" in ended.stderr


def test_a_stopped_sweep_tells_of_its_end_and_a_second_stop_ends_the_command(sweep: RealSweep) -> None:
    sweep.env["MARK"] = str(sweep.folder / "mark")
    sweep.start("sleeper", count=4, on_end="""sh -c 'echo $$ > "$MARK"; sleep 1000'""")
    sweep.wait_for(2)
    sweep.signal(signal.SIGINT)
    mark = Path(sweep.env["MARK"])
    sweep.wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), "on_end")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert "on_end and notify: cut short by another stop" in ended.stderr
    command = int(mark.read_text())  # it is killed; whoever inherits it has yet to reap it
    assert sweep.comes(lambda: not psutil.pid_exists(command), within_s=DEADLINE_S)


def test_people_are_notified_of_the_end(mixed: Mixed) -> None:
    (message,) = mixed.received
    sweep = f"sweep {mixed.ended.summary['sweep_id']}"
    assert message["title"] == f"{sweep}: 1 of 4 runs finished, 3 failed"
    assert mixed.ended.summary["best"]["run_id"] in message["message"]


def test_an_address_that_is_none_is_refused_before_anything_starts(sweep: RealSweep) -> None:
    sweep.is_first = True
    sweep.start("mixed", mains=MAINS, sweep=grid("well"), notify=["json://127.0.0.1", "nonsense://hush-hush"])
    ended = sweep.finish()
    assert (ended.code, ended.summary) == (2, None)
    assert "hpo.notify: address 2 (nonsense) is none that Apprise knows" in ended.stderr
    assert "hush" not in ended.stderr
    assert not sweep.directory.exists()


def test_where_apprise_is_missing_that_is_said_before_anything_starts(sweep: RealSweep) -> None:
    without = sweep.folder / "without"
    without.mkdir()
    (without / "apprise.py").write_text("raise ImportError('not installed')")
    sweep.env["PYTHONPATH"] = os.pathsep.join([str(without), sweep.env.get("PYTHONPATH", "")])
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("well"), notify=["json://127.0.0.1"]).finish()
    assert (ended.code, ended.summary) == (2, None)
    assert "pip install 'parallel_hpo[notify]'" in ended.stderr


@contextmanager
def receiver() -> Iterator[tuple[int, list[Any]]]:
    """Listen for what Apprise sends to a `json://` address."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with answering_in_a_thread(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_port, received
