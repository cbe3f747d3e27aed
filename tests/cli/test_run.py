"""`parallel-hpo run`: a real sweep and its report, its last lines and exit code, and created sweeps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.cli.options import PANELS
from parallel_hpo.cli.run import deadline_has_passed, resume_command
from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.config.section import HpoSection
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


def test_the_help_has_each_key_of_the_section_in_one_panel() -> None:
    keys = [key for panel in PANELS.values() for key in panel]
    assert sorted(keys) == sorted(HpoSection.model_fields.keys() - {"kind", "apply", "sweep_configuration"})


def typed_as(*words: str, found: str | None = "/env/bin/parallel-hpo", over: bool = False) -> str:
    return resume_command(
        words, "abc", find=lambda name: found, interpreter="/env/bin/python", deadline_has_passed=over
    )


def test_the_command_to_resume_is_the_original_command_with_the_sweeps_id() -> None:
    typed = typed_as(
        "/env/bin/parallel-hpo", "run", "my c.json", "t.py:f", "--count", "6", "--", "--resume", "x"
    )
    assert typed == "parallel-hpo run 'my c.json' t.py:f --count 6 --resume abc -- --resume x"


def test_the_command_to_resume_names_the_sweep_once() -> None:
    assert typed_as("/env/bin/parallel-hpo", "run", "c.json", "--resume", "old") == (
        "parallel-hpo run c.json --resume abc"
    )
    assert typed_as("/env/bin/parallel-hpo", "run", "--sweep-id=old", "c.json") == (
        "parallel-hpo run c.json --resume abc"
    )


def test_the_command_to_resume_has_a_full_path_if_it_is_not_on_the_search_path() -> None:
    assert typed_as("/env/bin/parallel-hpo", "run", "c.json", found=None) == (
        "/env/bin/parallel-hpo run c.json --resume abc"
    )
    assert typed_as("/site/parallel_hpo/__main__.py", "run", "c.json", found=None) == (
        "/env/bin/python -m parallel_hpo run c.json --resume abc"
    )


def test_a_passed_deadline_is_not_repeated_in_the_command_to_resume() -> None:
    for given in (["--deadline", "2026-12-24 18:00"], ["--deadline=2026-12-24 18:00"], []):
        typed = typed_as("/env/bin/parallel-hpo", "run", "c.json", *given, over=True)
        assert typed == "parallel-hpo run c.json --deadline null --resume abc"
    kept = typed_as("/env/bin/parallel-hpo", "run", "c.json", "--deadline", "3h")
    assert kept == "parallel-hpo run c.json --deadline 3h --resume abc"


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
