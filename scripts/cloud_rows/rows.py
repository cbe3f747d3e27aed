"""The rows: promises about a W&B server, and a test of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from scripts.cloud_rows.stage import WORKERS, SessionSetup, Swept
from scripts.gpu_rows.rows import Result

GRID: Final = {"method": "grid", "parameters": {"x": {"values": [1, 2, 3, 4]}}}
COUNT: Final = 4
MANY: Final = 20
"""Count of a sweep that is stopped long before it is reached."""
INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Row:
    """A promise and its test."""

    name: str
    promise: str
    check: Callable[[SessionSetup], Result]


def _method(stage: SessionSetup, method: str) -> Result:
    parameters = GRID["parameters"] if method == "grid" else {"x": {"min": 0.0, "max": 1.0}}
    swept = stage.sweep("learn", {"method": method, "parameters": parameters}, count=COUNT)
    return _complete(stage, swept)


def killed_worker(stage: SessionSetup) -> Result:
    """A run whose worker is killed by SIGKILL is retried under its id."""
    swept = stage.sweep("die_once", GRID, count=COUNT)
    attempts = {run["run_id"]: run["attempts"] for run in swept.summary.get("runs", ())}
    first = swept.lines[0]["run"] if swept.lines else None
    result = _complete(stage, swept)
    whole = bool(result.whole) and attempts.get(first) == 2
    return Result(whole, f"run {first}: {attempts.get(first)} attempts; {result.seen}")


def resume(stage: SessionSetup) -> Result:
    """Ctrl-C inside two runs, then `run --resume`."""
    going = stage.start("wait", GRID, count=COUNT)
    going.wait_for_runs(2)
    going.interrupt()
    ended = going.finish()
    going.let_go_on()
    result = _complete(stage, stage.start("wait", GRID, resume=going).finish())
    seen = f"Ctrl-C: exit code {ended.code}; --resume: {result.seen}"
    return Result(bool(result.whole) and ended.code == INTERRUPTED, seen)


def early_stopping(stage: SessionSetup) -> Result:
    """Three of four runs continue until hyperband stops them."""
    rules = {"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3}}
    swept = stage.sweep("train_until_stopped", GRID | rules, count=COUNT)
    summary = swept.summary
    stopped, finished = summary.get("stopped", 0), summary.get("finished", 0)
    whole = swept.code == 0 and stopped >= 1 and stopped + finished == COUNT
    seen = f"{stopped} of {COUNT} runs were stopped by the server, {finished} finished"
    return Result(True, seen) if whole else Result(False, f"{seen}; {swept.last_words}")


def stop(stage: SessionSetup) -> Result:
    """`wandb sweep --stop` while two runs are running."""
    points = {"method": "grid", "parameters": {"x": {"values": list(range(MANY))}}}
    going = stage.start("wait", points, count=MANY)
    sweep_id = going.wait_for_runs(2)
    stage.command("wandb", "sweep", "--stop", f"{stage.path}/{sweep_id}")
    going.let_go_on()
    swept = going.finish()
    performed, finished = swept.summary.get("attempted", 0), swept.summary.get("finished", 0)
    state = stage.ask_until(sweep_id, lambda found: found["state"] == "FINISHED")["state"]
    seen = f"{finished} of {performed} runs that had begun finished, of {MANY}; the server says {state}"
    whole = swept.code == 0 and 2 <= finished == performed < MANY and state == "FINISHED"
    return Result(True, seen) if whole else Result(False, f"{seen}; {swept.last_words}")


def upload(stage: SessionSetup) -> Result:
    """A sweep of the embedded server is uploaded twice; the second upload sends nothing."""
    swept = stage.sweep("learn", GRID, count=COUNT, backend="local", entity=None)
    sweep_id = str(swept.summary.get("sweep_id"))
    folder = next(stage.folder.glob(f"*/sweeps/{sweep_id}")).parent
    words = ("--project", stage.project, "--entity", stage.entity, "--directory", str(folder), "--json")
    first, second = (json.loads(stage.command("parallel_hpo", "upload", sweep_id, *words)) for _ in range(2))
    there = stage.ask_until(first["target"].rpartition("/")[2], partial(_are_finished, swept.run_ids))
    sent, again = len(first["sent"]), len(second["sent"])
    seen = f"{sent} of {COUNT} runs sent, by a second upload {again}; {_runs(there)}"
    whole = set(first["sent"]) == swept.run_ids and not second["sent"]
    return Result(whole and _are_finished(swept.run_ids, there) and len(there["runs"]) == COUNT, seen)


def _complete(stage: SessionSetup, swept: Swept) -> Result:
    """Compare the summary of a sweep with COUNT runs with the server's data."""
    summary = swept.summary
    if swept.code != 0 or len(swept.run_ids) != COUNT or summary.get("finished") != COUNT:
        return Result(False, swept.last_words)
    there = stage.ask_until(str(summary["sweep_id"]), partial(_are_finished, swept.run_ids))
    phantoms = set(summary.get("phantoms", ()))
    whole = _are_finished(swept.run_ids, there) and set(there["runs"]) <= swept.run_ids | phantoms
    named = f", {len(phantoms)} that no worker began" if phantoms else ""
    workers = len({line["worker"] for line in swept.lines})
    return Result(whole, f"{COUNT} of {COUNT} runs finished on {workers} workers{named}; {_runs(there)}")


def _are_finished(run_ids: Collection[str], there: Mapping[str, Any]) -> bool:
    return all(there["runs"].get(run_id) == "finished" for run_id in run_ids)


def _runs(there: Mapping[str, Any]) -> str:
    states = list(there["runs"].values())
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f"the server shows {counts or 'no runs'}, sweep {there['state']}"


ROWS: Final = (
    *(
        Row(
            method,
            f"exactly the count of runs, on {WORKERS} workers",
            partial(_method, method=method),
        )
        for method in ("grid", "random", "bayes")
    ),
    Row("killed-worker", "a killed worker's run is run again under the same id", killed_worker),
    Row("resume", "after Ctrl-C --resume performs what is left of the count", resume),
    Row("early-stopping", "hyperband's stops reach the runs, and count", early_stopping),
    Row("stop", "wandb sweep --stop: running runs finish, then the sweep ends", stop),
    Row("upload", "a sweep of the embedded server is brought over, once", upload),
)
BY_NAME: Final = {row.name: row for row in ROWS}
