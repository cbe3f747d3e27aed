"""What the end of a sweep and of a failed run set off: `on_end`, `on_failure`, `notify`, the run's folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import RealSweep, outcomes

MAINS: Final = Path(__file__).with_name("after_runs.py")
KEEP: Final = "import os, sys; print(sys.stdin.read().replace('\\n', ''), file=open(os.environ['TOLD'], 'a'))"
"""A command's program that keeps what it is told, a line each time."""


def grid(*how: str) -> dict[str, Any]:
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": {"how": {"values": list(how)}}}


def told(sweep: RealSweep) -> list[Any]:
    file = Path(sweep.env["TOLD"])
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def by_id(runs: list[Any]) -> list[Any]:
    return sorted(runs, key=lambda run: str(run["run_id"]))


@pytest.fixture
def told_sweep(sweep: RealSweep) -> RealSweep:
    """A sweep whose commands may keep what they are told."""
    sweep.env["TOLD"] = str(sweep.folder / "told.jsonl")
    return sweep


def test_on_end_is_told_what_the_summary_says(told_sweep: RealSweep) -> None:
    told_sweep.start("mixed", mains=MAINS, sweep=grid("well"), on_end=[sys.executable, "-c", KEEP])
    ended = told_sweep.finish()
    assert told(told_sweep) == [ended.summary]


def test_on_failure_is_told_of_each_failed_run_once(told_sweep: RealSweep) -> None:
    ended = told_sweep.start(
        "mixed",
        mains=MAINS,
        sweep=grid("well", "fail", "exit", "die"),
        on_failure=[sys.executable, "-c", KEEP],
    ).finish()
    folder = told_sweep.directory / ended.summary["sweep_id"] / "failed"
    bad = [run for run in ended.summary["runs"] if run["outcome"] != "finished"]
    assert len(bad) == 3
    place = {"sweep_id": ended.summary["sweep_id"]}
    expected = [run | place | {"folder": str(folder / run["run_id"])} for run in bad]
    assert by_id(told(told_sweep)) == by_id(expected)


def test_a_failed_run_has_a_folder_that_says_why(sweep: RealSweep) -> None:
    sweep.env |= {"MY_Api_Key": "s3cret-1", "TOKEN_OF": "s3cret-2", "DB": "postgresql://me:s3cret-3@host/x"}
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("fail", "well"), workers=1).finish()
    (failed,) = [run for run in ended.summary["runs"] if run["outcome"] == "failed"]
    folder = sweep.directory / ended.summary["sweep_id"] / "failed" / failed["run_id"]
    assert [path.name for path in folder.parent.iterdir()] == [failed["run_id"]]
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
    assert environment["DB"] == "postgresql://…@host/x"
    assert not {"MY_Api_Key", "TOKEN_OF", "WANDB_API_KEY"} & environment.keys()
    assert not any("s3cret" in path.read_text() for path in folder.iterdir())


def test_a_run_that_was_killed_has_its_last_lines_too(sweep: RealSweep) -> None:
    ended = sweep.start("mixed", mains=MAINS, sweep=grid("die"), workers=1, retries=1).finish()
    (run,) = ended.summary["runs"]
    folder = sweep.directory / ended.summary["sweep_id"] / "failed" / run["run_id"]
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
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_people_are_notified_of_the_end(sweep: RealSweep) -> None:
    with receiver() as (port, received):
        sweep.start("mixed", mains=MAINS, sweep=grid("well", "fail"), notify=[f"json://127.0.0.1:{port}/x"])
        ended = sweep.finish()
    (message,) = received
    assert message["title"] == f"sweep {ended.summary['sweep_id']}: 1 of 2 runs finished, 1 failed"
    assert ended.summary["best"]["run_id"] in message["message"]


def test_an_address_that_is_none_is_refused_before_anything_starts(sweep: RealSweep) -> None:
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

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, received
        server.shutdown()
        thread.join()
