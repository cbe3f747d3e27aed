"""`parallel-hpo compare`: shows sweeps side by side, a column for each."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, Json, directory_of, sweep_ids
from parallel_hpo.cli.output import print_for_machines, print_for_people, show_table
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.values import dotted, strict

if TYPE_CHECKING:
    from parallel_hpo.analysis.comparison import Comparison, Standing
    from parallel_hpo.analysis.result import SweepResult
    from parallel_hpo.records.folders import KnownSweep

_HOURS: Final = {"run_hours": "run hours", "wall_hours": "wall hours"}


def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(help="Ids of two or more sweeps.", metavar="SWEEP", autocompletion=sweep_ids),
    ],
    reach: Annotated[
        float | None,
        typer.Option(help="Compare the cost of reaching this value (default: the worst of the best values)."),
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Compare the results and costs of sweeps.

    Shows their best values, the cost of reaching a value, and their total cost.
    """
    from parallel_hpo.analysis.result import result_of

    folder = directory_of(directory)
    known = {found.sweep_id: found for found in (find_anywhere(folder, sweep) for sweep in sweeps)}
    if len(known) < 2:
        again = f"; {next(iter(known))} was named more than once" if len(sweeps) > 1 else ""
        raise UsageError(f"compare needs two or more sweeps{again}")
    if reach is not None and not math.isfinite(reach):
        raise UsageError(f"--reach {reach}: allowed: a finite number")
    results = [result_of(each) for each in known.values()]
    comparison = _compare([*known.values()], results, reach)
    described = [_describe(*each) for each in zip(known.values(), results, comparison.standings, strict=True)]
    if as_json:
        whole = {"reach": comparison.reach, "not_ranked": comparison.not_ranked, "sweeps": described}
        print_for_machines(json.dumps(whole, indent=2, allow_nan=False))
        return
    show_table([*_rows(comparison.reach, described)])
    if comparison.not_ranked:
        print_for_people(f"not ranked: {comparison.not_ranked}")


def _compare(known: Sequence[KnownSweep], results: Sequence[SweepResult], reach: float | None) -> Comparison:
    from parallel_hpo.analysis.comparison import ComparedSweep, compare

    now = time.time()
    contenders = [
        ComparedSweep(result, each.attempts, now if each.supervised else None)
        for each, result in zip(known, results, strict=True)
    ]
    comparison = compare(contenders, reach)
    if reach is not None and comparison.not_ranked:
        raise UsageError(f"--reach {reach:g} is no value for all: {comparison.not_ranked}")
    return comparison


def _describe(known: KnownSweep, result: SweepResult, standing: Standing) -> dict[str, Any]:
    """Return what the JSON contains of a sweep."""
    reached = standing.reached
    return {
        "sweep": result.sweep_id,
        "name": known.facts.get("name"),
        "project": known.project,
        "metric": result.metric,
        "goal": result.goal,
        "running": bool(known.supervised),
        "stop_reason": result.stop_reason,
        "count": result.count,
        "started": len(result.runs),
        "finished": result.finished,
        **asdict(standing.cost),
        "rank": standing.rank,
        "best": None if result.best is None else strict(asdict(result.best)),
        "reached": None
        if reached is None
        else {"run_id": reached.run_id, "value": reached.value, **asdict(reached.cost)},
    }


def _rows(reach: float | None, described: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table that aren't empty, with a column per sweep."""
    columns = {each["sweep"]: _column(reach, each) for each in described}
    for label in dict.fromkeys(label for column in columns.values() for label in column):
        cells = [column.get(label) for column in columns.values()]
        if any(cell is not None for cell in cells):
            yield {"": label, **dict(zip(columns, cells, strict=True))}


def _column(reach: float | None, described: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's cells in the table, by row label."""
    from parallel_hpo.analysis.table import PARAMETERS, as_text

    best, reached = described["best"] or {}, described["reached"] or {}
    cells = {name: described[name] for name in ("name", "project", "metric", "goal", "stop_reason")}
    cells |= {"rank": described["rank"], "best": best.get("value"), "best run": best.get("run_id")}
    cells |= {name: described[name] for name in ("count", "started", "finished")}
    cells |= {label: described[name] for name, label in _HOURS.items()}
    if reach is not None:
        cells[f"runs to reach {reach:g}"] = reached.get("runs")
        cells |= {f"{label} to reach {reach:g}": reached.get(name) for name, label in _HOURS.items()}
    parameters = dotted(best.get("parameters", {}))
    return cells | {PARAMETERS + name: as_text(value) for name, value in parameters}
