"""`parallel-hpo compare`, `logs` and `report` on the folders of ended sweeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from parallel_hpo.cli.logs import LOOK_EVERY_S, logs
from parallel_hpo.core.folders import PIPE
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from tests.cli.conftest import Command
from tests.cli.folders import DONE, data_of, leave_sweep
from tests.cluster.pools import joined
from tests.ledgers import record_attempt_end, record_end, record_quarantine, record_spawn, record_start


@pytest.fixture
def sweeps(tmp_path: Path) -> Path:
    """Two sweeps with one metric, the second in shares; one with another; and another folder."""
    leave_sweep(tmp_path / "fast", [0.5, 0.25, None])
    leave_sweep(tmp_path / "slow" / "share-1-of-2", [0.75, 0.5], facts=DONE | {"name": "by two"})
    leave_sweep(tmp_path / "slow" / "share-2-of-2", [None, 0.375], first=2)
    leave_sweep(tmp_path / "other", [0.9], facts=DONE | {"metric": "acc", "goal": "maximize"})
    return tmp_path


@pytest.fixture
def compare(command: Command, sweeps: Path) -> Command:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return command("compare", *words, "--directory", str(sweeps))

    return call


def test_sweeps_are_compared_in_order_with_rank_and_cost(compare: Command) -> None:
    told = json.loads(compare("team/digits/slow", "fast", "--json").stdout)
    slow, fast = told["sweeps"]
    assert (told["reach"], told["not_ranked"]) == (0.375, None)
    assert (slow["sweep"], slow["name"], slow["project"], slow["rank"]) == ("slow", "by two", "digits", 2)
    assert (slow["count"], slow["started"], slow["finished"], slow["runs"]) == (4, 4, 3, 4)
    assert slow["run_hours"] == slow["wall_hours"] == pytest.approx(8 / 3600)
    reached = slow["reached"]
    assert (reached["run_id"], reached["value"], reached["runs"]) == ("share-2-of-2-3", 0.375, 4)
    assert (fast["rank"], fast["reached"]["runs"]) == (1, 2)
    parameters = {"optim": {"lr": 0.1}, "layers": [1]}
    assert fast["best"] == {"run_id": "fast-1", "value": 0.25, "parameters": parameters}


def test_the_comparison_has_a_column_per_sweep_with_its_best_parameters(compare: Command) -> None:
    done = compare("fast", "slow", "--reach", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[: line.index("  ")]: line.split()[-2:] for line in done.stdout.splitlines()[1:] if line}
    assert done.stdout.splitlines()[0].split() == ["fast", "slow"]
    assert rows["best"] == ["0.25", "0.375"]
    assert rows["best run"] == ["fast-1", "share-2-of-2-3"]
    assert rows["runs to reach 0.5"] == ["1", "2"]
    assert rows["parameters.layers"] == ["[1]", "[3]"]


def test_a_sweep_with_another_goal_is_shown_unranked(compare: Command) -> None:
    done = compare("fast", "other")
    assert (done.returncode, "rank" in done.stdout) == (0, False)
    assert done.stderr.startswith(
        "not ranked: the sweeps don't have the same metric and goal: fast minimizes"
    )
    assert "is no value for all: the sweeps don't have" in compare("fast", "other", "--reach", "1").stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["fast"], "compare needs two or more sweeps"),
        (["fast", "team/digits/fast"], "compare needs two or more sweeps; fast was named more than once"),
        (["fast", "nothing"], "there is no sweep nothing in "),
        (["fast", "slow", "--reach", "inf"], "--reach inf: allowed: a finite number"),
    ],
)
def test_an_invalid_comparison_is_a_usage_error(compare: Command, words: list[str], error: str) -> None:
    done = compare(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr


def test_logs_prints_the_local_logs_of_machines_and_names_the_others(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    directory, other = tmp_path / "sweeps", tmp_path / "other" / "abc"
    places = {"gpu1": str(directory), "gpu2": str(other.parent), "gpu3": "/on/gpu3"}
    with Ledger(directory / "abc" / "ledger.db") as ledger:
        machines = enumerate(places.items(), 1)
        ledger.append([joined(i, i, name, directory=at) for i, (name, at) in machines], durable=False)
    joined_machine(directory)
    joined_machine(other.parent, "gpu2-2", "two")
    logs("abc", None, directory=directory)
    printed = capfdbinary.readouterr()
    headings = [f"==> machine-{name}/worker-0 <==" for name in ("gpu1-1", "gpu2-2")]
    assert sorted(printed.out.decode().splitlines()) == [*headings, "one", "two"]
    assert printed.err == b"the logs of gpu3 are on that machine, in /on/gpu3/abc/machine-gpu3-3\n"


def joined_machine(directory: Path, name: str = "gpu1-1", line: str = "one") -> Path:
    """Create the folder of a joined machine with a worker's log."""
    machine = directory / "abc" / f"machine-{name}"
    (machine / "worker-0").mkdir(parents=True)
    (machine / "worker-0" / "output.log").write_text(f"{line}\n")
    return machine


def test_logs_on_a_joined_machine_prints_its_own_logs(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    joined_machine(tmp_path)
    logs("abc", None, directory=tmp_path)
    printed = capfdbinary.readouterr()
    assert printed.out == b"==> machine-gpu1-1/worker-0 <==\none\n"
    assert printed.err == b"the sweep's other machines, if there are any, keep their own logs\n"


def test_logs_follows_a_machines_log_until_its_supervisor_ends(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    machine = joined_machine(tmp_path)
    os.mkfifo(machine / PIPE)
    supervisor = os.open(machine / PIPE, os.O_RDONLY | os.O_NONBLOCK)
    following = threading.Thread(target=logs, args=("abc",), kwargs={"follow": True, "directory": tmp_path})
    following.start()
    following.join(LOOK_EVERY_S)
    was_on = following.is_alive()
    os.close(supervisor)
    following.join()
    assert was_on
    assert b"one" in capfdbinary.readouterr().out


def test_logs_accepts_a_worker_by_number_or_by_name(tmp_path: Path, command: Command) -> None:
    joined_machine(tmp_path)
    for worker in ("0", "w0"):
        assert command("logs", "abc", worker, "--directory", str(tmp_path)).stdout == "one\n"
    refused = command("logs", "abc", "x0", "--directory", str(tmp_path))
    assert (refused.returncode, "as 0 or w0" in refused.stderr) == (2, True)


def test_only_colour_codes_of_a_log_reach_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = joined_machine(tmp_path) / "worker-0" / "output.log"
    raw = b"\x1b[31m10%\x1b[0m\r20%\n\x1b]0;owned\x07\x1b[2J\n"
    log.write_bytes(raw)
    logs("abc", 0, directory=tmp_path)
    assert capfdbinary.readouterr().out == raw
    with os.fdopen(os.dup(1), "w") as terminal:
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdout", terminal)
        logs("abc", 0, directory=tmp_path)
    shown = capfdbinary.readouterr().out
    assert shown == b"\x1b[31m10%\x1b[0m\r20%\n\\x1b]0;owned\\x07\\x1b[2J\n"


def wandb_sweep(folder: Path) -> None:
    """Create the folder of a sweep on W&B's server."""
    finished = AttemptEnd(outcome=Outcome.FINISHED, value=0.5, duration_s=2.0)
    crashed = AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=1.0)
    facts = {"url": "https://wandb.example/team/project/sweeps/abc", "backend": "wandb", "count": 2}
    with Ledger(folder / "ledger.db") as ledger:
        ledger.record_facts({**facts, "path": "team/project/abc", "metric": "loss", "goal": "minimize"})
        record_spawn(ledger, Slot(0), "GPU-3", again=False)
        for run_id, rate in (("one", 1e-5), ("two", 0.1)):
            parameters = {"optimizer": {"lr": rate}, "name": "</script><b>"}
            record_start(ledger, run_id, parameters=parameters, device="GPU-3")
        record_attempt_end(ledger, RunId("one"), 1, crashed)
        record_spawn(ledger, Slot(0), "GPU-3", again=True)
        record_quarantine(ledger, "GPU-3", "ECC")
        record_start(ledger, "one", attempt=2, device="GPU-3")
        record_end(ledger, RunId("one"), 2, finished)


def test_a_report_of_a_sweep_on_wandb_has_the_folders_data(tmp_path: Path, command: Command) -> None:
    wandb_sweep(tmp_path / "abc")
    done = command("report", "team/project/abc", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "abc.html\n", "")
    data, text = data_of(tmp_path / "abc.html"), (tmp_path / "abc.html").read_text()
    assert (
        "its histories are on W&amp;B&#39;s server, at https://wandb.example/team/project/sweeps/abc" in text
    )
    assert data["sweep"]["runs"]["state"] == ["finished", "cut short"]
    assert data["sweep"]["runs"]["parameters"]["optimizer.lr"] == [1e-5, 0.1]
    axes = {axis["name"]: (axis["varied"], axis["log"]) for axis in data["sweep"]["parameters"]}
    assert axes == {"optimizer.lr": (True, True), "name": (False, False)}
    assert data["timeline"]["lanes"] == [{"name": "worker 0", "machine": "", "device": "GPU-3"}]
    assert [mark["kind"] for mark in data["timeline"]["marks"]] == ["restart", "quarantine", "retry"]
    assert data["timeline"]["marks"][2]["text"] == "SIGKILL"
    assert text.count("</script>") == 3
    assert 'data-chart="histories"' not in text


def test_report_writes_to_stdout_for_a_dash_and_names_an_unwritable_file(
    tmp_path: Path, command: Command
) -> None:
    wandb_sweep(tmp_path / "abc")
    done = command("report", "abc", "--directory", str(tmp_path), "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("</html>")
    assert "-" not in [path.name for path in tmp_path.iterdir()]
    done = command("report", "abc", "--directory", str(tmp_path), "-o", "nowhere/report.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere/report.html can't be written: No such file or directory; ")
