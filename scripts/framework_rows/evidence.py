"""The results of a sweep, from its summary, its ledger, its server and the files of its script."""

from __future__ import annotations

import json
import math
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.framework_rows.environments import ROOT
from scripts.framework_rows.rows import PROJECT, RUNS, Row

ASKING: Final = "scripts.framework_rows.asking"
LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class Attempt:
    """An attempt in the ledger."""

    number: int
    started_at: float
    outcome: str | None
    duration_s: float | None


@dataclass(frozen=True)
class TableRun:
    """The results of a sweep; times in seconds, None if unknown."""

    finished: int
    reasons: list[str]
    equal: int
    best_is_right: bool
    said: int
    left: list[str]
    begins_s: float | None
    run_s: float | None
    back_s: float | None

    @property
    def whole(self) -> bool:
        """Whether the sweep passed all checks."""
        good = self.finished == self.equal == self.said == RUNS and self.back_s is not None
        return good and self.best_is_right and not self.reasons and not self.left


def judge(
    row: Row, folder: Path, env: Mapping[str, str], *, began: float, killed_at: float | None, left: list[str]
) -> TableRun:
    """Collect the results of a sweep in `folder`; `began` and `killed_at` are wall-clock times."""
    summary = _summary(folder)
    attempts = _attempts(folder)
    wrote = {path.stem: _value(path, row) for path in folder.glob("work/results/*.json")}
    kept = _ask(row, folder, env)
    best = summary["best"]["value"] if summary["best"] else None
    pick = min if row.goal == "minimize" else max
    again = [attempt.started_at - killed_at for attempt in attempts if attempt.number == 2 and killed_at]
    durations = [a.duration_s for a in attempts if a.outcome == "finished" and a.duration_s is not None]
    return TableRun(
        finished=summary["finished"],
        reasons=_reasons(summary) if attempts else [last_line(folder)],
        equal=sum(_same(kept[name]["value"], value) for name, value in wrote.items() if name in kept),
        best_is_right=bool(wrote) and _same(best, pick(wrote.values())),
        said=sum(run["said"] for run in kept.values()),
        left=left,
        begins_s=attempts[0].started_at - began if attempts else None,
        run_s=statistics.median(durations) if durations else None,
        back_s=again[0] if again else None,
    )


def last_line(folder: Path) -> str:
    """Return the last line of the terminal output, preferably one with an error."""
    text = (folder / "said.log").read_text(errors="replace")
    lines = ["it said nothing", *(line.strip() for line in text.splitlines() if line.strip())]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1])


def _summary(folder: Path) -> dict[str, Any]:
    for path in folder.glob("sweeps/*/summary.json"):
        summary: dict[str, Any] = json.loads(path.read_text())
        return summary
    return {"runs": [], "finished": 0, "best": None}


def _reasons(summary: Mapping[str, Any]) -> list[str]:
    return sorted({run["reason"] for run in summary["runs"] if run["outcome"] != "finished"})


def _attempts(folder: Path) -> list[Attempt]:
    """Return all attempts in the order of their starts."""
    for path in folder.glob("sweeps/*/ledger.db"):
        with closing(sqlite3.connect(path)) as ledger:
            columns = "attempt, started_at, outcome, duration_s"
            return [
                Attempt(*row) for row in ledger.execute(f"SELECT {columns} FROM attempts ORDER BY started_at")
            ]
    return []


def _ask(row: Row, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Return each run's data from the sweep's server, which is restarted on its database."""
    database = folder / "sweeps" / "server.db"
    if not database.exists():
        return {}
    with _server(database, env) as said:
        client = {"WANDB_BASE_URL": said["url"], "WANDB_API_KEY": said["api_key"], "TMPDIR": env["HOME"]}
        done = subprocess.run(
            [sys.executable, "-m", ASKING, PROJECT, row.metric],
            env=dict(env) | client | {"PYTHONPATH": str(ROOT)},
            cwd=env["HOME"],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return {}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _server(database: Path, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "parallel_hpo", "server", "--database", str(database)]
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def _value(path: Path, row: Row) -> float:
    value: float = json.loads(path.read_text())[row.metric]
    return value


def _same(one: float | None, other: float) -> bool:
    return one is not None and math.isclose(one, other, rel_tol=1e-12)
