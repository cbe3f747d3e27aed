"""Artificial results of sweeps for the analysis."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parallel_hpo.analysis.result import SweepResult, summarise
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.reader import RunRow
from tests.results import CLOSING


def row(
    number: int,
    parameters: Mapping[str, Any],
    value: float | None = 1.0,
    outcome: Outcome | None = Outcome.FINISHED,
    **changes: Any,
) -> RunRow:
    made = RunRow(
        run_id=RunId(f"run{number}"),
        parameters=parameters,
        slot=Slot(number % 2),
        device=None,
        attempts=1,
        deaths=0,
        outcome=outcome,
        reason="",
        value=value,
        duration_s=None if outcome is None else 2.5,
        resumable=False,
        started_at=1_700_000_000.0 + number,
    )
    return replace(made, **changes)


def result_of(rows: Iterable[RunRow], *, folder: Path | None = None, goal: str = "minimize") -> SweepResult:
    place = "" if folder is None else str(folder)
    closing = replace(CLOSING, sweep_id="abc", metric="loss", goal=goal, folder=place)
    return summarise(rows, (), closing, is_over=False)


def keep_summary(folder: Path, run_id: str, summary: Any, *, made: str = "20260101_000000") -> None:
    files = folder / "worker-0" / "wandb" / f"run-{made}-{run_id}" / "files"
    files.mkdir(parents=True)
    (files / "wandb-summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))


def odd_sweep(runs: int = 60) -> SweepResult:
    """A sweep that is difficult to plot: lists, gaps, NaN, constant values, all outcomes."""
    rng = random.Random(1)
    ends = (*[Outcome.FINISHED] * 6, Outcome.FAILED, Outcome.STOPPED, Outcome.CRASHED, None)
    rows = []
    for number in range(runs):
        kind = rng.choice(["sgd", "adam"])
        parameters: dict[str, Any] = {
            "optimizer": {"kind": kind, "lr": 10 ** rng.uniform(-5, 0)},
            "layers": rng.choice([[64], [64, 32], []]),
            "depth": rng.randint(1, 9),
            "nothing": rng.choice([None, 1]),
            "not_a_number": rng.choice([float("nan"), 1.0]),
            "dropout": rng.choice([True, False]),
            "mixed": rng.choice(["auto", 3, 0.5, True]),
            "fixed": 7,
        }
        if kind == "sgd":
            parameters["momentum"] = rng.random()
        end = ends[number % len(ends)]
        value = parameters["depth"] + rng.random() if end is Outcome.FINISHED and number % 7 else None
        rows.append(row(number, parameters, value, end))
    return result_of(rows)
