"""`parallel-hpo report` of a sweep on a server, and of one with a folder only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_attempt_end, record_end, record_quarantine, record_spawn, record_start

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TRAIN = """
import wandb

def main():
    with wandb.init() as run:
        if run.config["lr"] == 1.0:
            raise ValueError("too fast")
        for step in range(20):
            run.log({"loss": run.config["lr"] / (step + 1)})
"""
SWEEP = """
method: grid
metric: {name: loss, goal: minimize}
parameters:
  lr: {values: [0.5, 0.25, 1.0]}
"""


def data_of(file: Path) -> Any:
    """Return the data in a report."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', file.read_text(), re.DOTALL
    )
    assert found is not None
    return json.loads(found[1])


def test_report_writes_one_file_and_prints_its_path(tmp_path: Path, command: Command) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    options = ("--workers", "1", "--backend", "local", "--directory", "sweeps", "--json")
    summary = json.loads(command("run", "sweep.yaml", "train.py:main", *options).stdout)
    done = command("report", summary["sweep_id"], "--directory", "sweeps", "-o", "report.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "report.html\n", "")
    data = data_of(tmp_path / "report.html")
    runs = data["sweep"]["runs"]
    assert dict(zip(runs["parameters"]["lr"], runs["state"], strict=True)) == {
        0.5: "finished",
        0.25: "finished",
        1.0: "failed",
    }
    assert data["sweep"]["keys"] == ["loss"]
    assert data["sweep"]["best"] == summary["best"]["run_id"]
    assert [(bar["lane"], bar["outcome"]) for bar in data["timeline"]["bars"]] == [
        (0, "finished"),
        (0, "finished"),
        (0, "failed"),
    ]
    assert summary["best"]["run_id"] in (tmp_path / "report.html").read_text().partition("<tbody>")[2]


def wandb_sweep(folder: Path) -> None:
    """Create the folder of a sweep on W&B's server."""
    finished = AttemptEnd(outcome=Outcome.FINISHED, value=0.5, duration_s=2.0)
    with Ledger(folder / "ledger.db") as ledger:
        ledger.record_facts(
            {
                "path": "team/project/abc",
                "url": "https://wandb.example/team/project/sweeps/abc",
                "backend": "wandb",
                "count": 2,
                "metric": "loss",
                "goal": "minimize",
            }
        )
        record_spawn(ledger, Slot(0), "GPU-3", again=False)
        for run_id, rate in (("one", 1e-5), ("two", 0.1)):
            parameters = {"optimizer": {"lr": rate}, "name": "</script><b>"}
            record_start(
                ledger, RunId(run_id), parameters=parameters, attempt=1, slot=Slot(0), device="GPU-3"
            )
        record_attempt_end(
            ledger, RunId("one"), 1, AttemptEnd(outcome=Outcome.CRASHED, reason="SIGKILL", duration_s=1.0)
        )
        record_spawn(ledger, Slot(0), "GPU-3", again=True)
        record_quarantine(ledger, "GPU-3", "ECC")
        record_start(ledger, RunId("one"), parameters={}, attempt=2, slot=Slot(0), device="GPU-3")
        record_end(ledger, RunId("one"), 2, finished)


def test_a_report_of_wandbs_sweep_has_the_folders_data(tmp_path: Path, command: Command) -> None:
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


def test_an_unknown_sweep_is_named_with_the_known_ones(tmp_path: Path, command: Command) -> None:
    wandb_sweep(tmp_path / "abc")
    done = command("report", "xyz", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no sweep xyz in {tmp_path}; there: abc" in done.stderr


def test_an_unwritable_file_is_an_error(tmp_path: Path, command: Command) -> None:
    wandb_sweep(tmp_path / "abc")
    done = command("report", "abc", "--directory", str(tmp_path), "-o", "nowhere/report.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: nowhere/report.html can't be written: No such file or directory; name another file by -o\n"
    )


def test_report_writes_to_stdout_for_a_dash(tmp_path: Path, command: Command) -> None:
    wandb_sweep(tmp_path / "abc")
    done = command("report", "abc", "--directory", str(tmp_path), "-o", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("</html>")
    assert "-" not in [path.name for path in tmp_path.iterdir()]
