"""Rows about the cost of the supervisor itself, and its growth with the work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from scripts.benchmarks.figures import Measure, Row
from scripts.benchmarks.scene import Scene

FEW: Final = 10
SOME: Final = 1_000
MANY: Final = 10_000
CROWD: Final = 64
LINES: Final = 200_000
FEW_LINES: Final = 20_000
LEDGER: Final = 100_000


def cpu_ms(workers: int, runs: int) -> Measure:
    """Return a function that measures the supervisor's processor time per run, in ms."""

    def measure(scene: Scene) -> float:
        return float(scene.script("crowd.py", str(workers), str(runs))["cpu_s"]) / runs * 1000

    return measure


def line_us(lines: int) -> Measure:
    """Return a function that measures the time per line from a worker's pipe to log and display, in µs."""

    def measure(scene: Scene) -> float:
        return float(scene.script("lines.py", str(lines))["took_s"]) / lines * 1e6

    return measure


def resume(runs: int) -> Measure:
    """Return a function that measures the time from `optimize(resume=…)` to `main`, after many runs."""

    def measure(scene: Scene) -> float:
        before = scene.optimize("enter", {"workers": 1, "count": runs + 2})
        before.journal.wait_for("enter")
        before.end()
        (ledger,) = before.journal.path.with_suffix(".sweeps").glob("*/ledger.db")
        _fill(ledger.as_posix(), runs)
        process = scene.resume("enter", before, ledger.parent.name)
        entered = process.journal.wait_for("enter")[0]
        process.end()
        return entered - process.journal.times("optimize")[0]

    return measure


def _fill(ledger: str, runs: int) -> None:
    """Write finished runs into a ledger, as copies of the one that it contains and was cut short."""
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    with closing(sqlite3.connect(ledger)) as db, db:
        for table, own in (("runs", ("number", "run_id")), ("attempts", ("run_id",))):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            kept = [name for name in columns if name not in own]
            values = ", ".join(["'many' || n.i", *(f"one.{name}" for name in kept)])
            db.execute(
                f"{numbers} INSERT INTO {table} (run_id, {', '.join(kept)})"
                f" SELECT {values} FROM n, (SELECT * FROM {table} LIMIT 1) AS one",
                (runs,),
            )
            db.execute(f"UPDATE {table} SET outcome = 'finished' WHERE run_id LIKE 'many%'")
        db.execute("UPDATE runs SET resumable = 0 WHERE run_id LIKE 'many%'")


ROWS: Final = (
    Row(
        "cpu",
        f"supervisor's processor time per run, 2 workers, {SOME} runs",
        "ms",
        cpu_ms(2, SOME),
        f"the same, {FEW} runs",
        cpu_ms(2, FEW),
        value_goal=1.0,
    ),
    Row(
        "cpu-many",
        f"supervisor's processor time per run, 2 workers, {MANY} runs",
        "ms",
        cpu_ms(2, MANY),
        f"the same, {SOME} runs",
        cpu_ms(2, SOME),
        value_goal=1.0,
        repeat=1,
    ),
    Row(
        "cpu-crowd",
        f"supervisor's processor time per run, {CROWD} workers, {SOME} runs",
        "ms",
        cpu_ms(CROWD, SOME),
        "the same, 2 workers",
        cpu_ms(2, SOME),
        value_goal=1.0,
    ),
    Row(
        "lines",
        f"from a worker's pipe to its log and the prefixed line on stderr, {LINES} lines, each",
        "µs",
        line_us(LINES),
        f"the same, {FEW_LINES} lines",
        line_us(FEW_LINES),
    ),
    Row(
        "resume",
        f"from optimize(resume=…) to inside main, with {LEDGER} runs in the ledger",
        "s",
        resume(LEDGER),
        "the same, with 1 run",
        resume(1),
        repeat=2,
    ),
)
