"""`parallel-hpo run`: a real sweep and its report, its last lines and exit code, and created sweeps."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.cli.run import deadline_has_passed, resume_command
from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.pool_messages import Join
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.setup import DIVIDED
from tests.cli.conftest import Command
from tests.cli.folders import data_of
from tests.server.embedded import KEY, Embedded

TRAIN = """
import sys
import wandb

def main():
    with wandb.init() as run:
        if run.config["lr"] == 1.0:
            raise ValueError("too fast")
        print("arguments:", sys.argv)
        for step in range(20):
            run.log({"loss": run.config["lr"] * (20 - step)})
"""
SWEEP = """
method: grid
metric: {name: loss, goal: minimize}
parameters:
  lr: {values: [0.5, 0.25, 1.0]}
"""


def test_a_sweep_file_and_a_target_give_a_summary_and_a_report(tmp_path: Path, command: Command) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    options = ("--workers", "1", "--backend", "local", "--directory", "sweeps", "--name", "night", "--json")
    done = command("run", "sweep.yaml", "train.py:main", *options, "--", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["finished"], summary["lost"], summary["best"]["value"]) == (2, 0, 0.25)
    assert "train.py', '--epochs', '3']" in done.stderr
    assert f"best: run {summary['best']['run_id']}  loss=0.25  lr=0.25\n" in done.stderr
    assert json.loads((tmp_path / "sweeps" / summary["sweep_id"] / "summary.json").read_text()) == summary
    assert "night" in command("status", "--directory", "sweeps").stdout
    done = command("report", summary["sweep_id"], "--directory", "sweeps", "-o", "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "report.html\n", "")
    data = data_of(tmp_path / "report.html")
    runs = data["sweep"]["runs"]
    states = {0.5: "finished", 0.25: "finished", 1.0: "failed"}
    assert dict(zip(runs["parameters"]["lr"], runs["state"], strict=True)) == states
    assert (data["sweep"]["keys"], data["sweep"]["best"]) == (["loss"], summary["best"]["run_id"])
    bars = [(bar["lane"], bar["outcome"]) for bar in data["timeline"]["bars"]]
    assert bars == [(0, "finished"), (0, "finished"), (0, "failed")]
    assert summary["best"]["run_id"] in (tmp_path / "report.html").read_text().partition("<tbody>")[2]


def test_a_new_name_for_an_existing_sweep_is_refused(tmp_path: Path, command: Command) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = command("run", "sweep.yaml", "--name", "night", "--sweep-id", "abc", "--dry-run")
    assert (done.returncode, "--name names a new sweep" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("typed", "resumed"),
    [
        ("run 'my c.json' t.py:f -- --resume x", "run 'my c.json' t.py:f --resume abc -- --resume x"),
        ("run c.json --resume old", "run c.json --resume abc"),
        ("run --sweep-id=old c.json", "run c.json --resume abc"),
        ("run c.json --deadline 3h", "run c.json --deadline 3h --resume abc"),
        *(
            (f"run c.json {passed}", "run c.json --deadline null --resume abc")
            for passed in ("--deadline '2026-12-24 18:00'", "--deadline='2026-12-24 18:00'", "")
        ),
    ],
)
def test_the_command_to_resume_names_the_sweep_once_and_no_passed_deadline(typed: str, resumed: str) -> None:
    words, over = ["/env/bin/parallel-hpo", *shlex.split(typed)], "null" in resumed
    found = resume_command(words, "abc", find=lambda name: words[0], interpreter="", deadline_has_passed=over)
    assert found == f"parallel-hpo {resumed}"


@pytest.mark.parametrize(
    ("program", "typed"),
    [
        ("/env/bin/parallel-hpo", "/env/bin/parallel-hpo"),
        ("/site/parallel_hpo/__main__.py", "/env/bin/python -m parallel_hpo"),
    ],
)
def test_the_command_to_resume_has_a_full_path_if_it_is_not_on_the_search_path(
    program: str, typed: str
) -> None:
    found = resume_command(
        (program, "run"), "abc", find=lambda _: None, interpreter="/env/bin/python", deadline_has_passed=False
    )
    assert found == f"{typed} run --resume abc"


def test_only_a_deadline_with_a_date_can_have_passed() -> None:
    at, reason = "2026-12-24T18:00:00+01:00", "deadline 2026-12-24T18:00:00+01:00: no run starts"
    assert deadline_has_passed(at, reason)
    assert not deadline_has_passed(at, "SIGINT")
    assert not deadline_has_passed("3h", "deadline 3h")
    assert not deadline_has_passed(None, "sweep timeout 4 s")


LATE: Final = """
import atexit, os, signal, sys
from parallel_hpo.cli.output import LateSignals
from parallel_hpo.core.notices import SweepOver

def hear(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])

class Last:
    def __del__(self):
        hear()

atexit.register(hear)
with LateSignals() as late:
    if "before" in sys.argv:
        hear()
    late.watching(lambda notice: print("over", notice.exit_code, flush=True))(SweepOver(5))
    hear(2 if "twice" in sys.argv else 1)
    print("printed", flush=True)
hear()
sys.last = Last()
sys.exit(5)
"""
NUMBERS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def end_of(*words: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", LATE, *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return ended.returncode, ended.stdout.splitlines()


@pytest.mark.parametrize("number", NUMBERS)
def test_no_signal_changes_the_exit_code_of_an_ended_sweep(number: str) -> None:
    assert end_of(number) == (5, ["over 5", "printed"])


def test_a_second_signal_does_not_wait_for_output() -> None:
    assert end_of("SIGINT", "twice") == (5, ["over 5"])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_before_the_end_of_the_sweep_has_its_usual_effect(number: str) -> None:
    code, printed = end_of(number, "before")
    assert (code, printed) == (-signal.Signals[number], [])


MAIN: Final = """
import time, wandb
def quick():
    with wandb.init() as run:
        run.log({"loss": run.config["x"]})
def endless():
    with wandb.init():
        time.sleep(600)
"""
CONFIG: Final = {
    "count": 2,
    "workers": 1,
    "sweep_configuration": {
        "method": "grid",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": {"values": [0, 1]}},
    },
}


class CreatedSweep:
    """A sweep of two runs, with its pool."""

    def __init__(self, url: str, command: Command) -> None:
        self._url = url
        self._command = command
        self._variables = {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        self.create("quick")

    def create(self, main: str, *options: str) -> None:
        created = self("run", "hpo.json", f"main.py:{main}", "--create", *options)
        assert created.returncode == 0, created.stderr
        self.id = created.stdout.strip()
        self.pool = PoolClient(self._url, KEY, self.id)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._command(*words, **self._variables)

    def share(self, share: str) -> subprocess.CompletedProcess[str]:
        return self("run", "hpo.json", "main.py:quick", "--sweep-id", self.id, "--share", share)


@pytest.fixture
def sweep(command: Command, clean_env: dict[str, str], tmp_path: Path) -> Iterator[CreatedSweep]:
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "hpo.json").write_text(json.dumps({"hpo": CONFIG}))
    server = Embedded(clean_env, tmp_path / "server.db")
    try:
        yield CreatedSweep(server.said()["url"], command)
    finally:
        server.end()


def test_a_share_of_a_sweep_that_machines_have_joined_is_refused(sweep: CreatedSweep) -> None:
    sweep.pool.join(Join("gpu1", versions_here(), workers=1))
    refused = sweep.share("1/2")
    assert refused.returncode == ExitCode.USAGE
    assert f"use `parallel-hpo join {sweep.id}` on this machine too" in refused.stderr
    assert sweep.pool.events(0).ends is None


def test_a_machine_cannot_join_a_sweep_that_was_run_in_shares(sweep: CreatedSweep) -> None:
    for share in ("1/2", "2/2"):
        done = sweep.share(share)
        assert (done.returncode, "1 runs" in done.stderr) == (ExitCode.COMPLETE, True), done.stderr
    refused = sweep("join", sweep.id)
    assert refused.returncode == ExitCode.USAGE
    assert DIVIDED in refused.stderr
    assert [event.kind for event in sweep.pool.events(0).events] == ["opened", "stopped"]


def test_a_machine_ends_at_its_own_deadline_and_the_sweep_continues(sweep: CreatedSweep) -> None:
    sweep.create("endless", "--deadline", "6s")
    ended = sweep("join", sweep.id)
    assert ended.returncode == ExitCode.SWEEP_TIMEOUT, ended.stderr
    assert "ended: deadline of this machine" in ended.stderr
    news = sweep.pool.events(0)
    kinds = [event.kind for event in news.events]
    assert (kinds[-1], news.ends) == ("left", None)
    assert kinds.count("started") == kinds.count("handed_on")  # on a busy machine, no run may have begun
