"""The end of a run, as its server hears it: finish what `main` left open, open what it never opened.

A run that the server never heard of (offline, disabled, no `wandb.init()` at all) would be
delivered again: so it is opened here, and closed with its exit code. What it wrote
offline stays in its folder, for the supervisor to send. Where its summary lacks the
sweep's metric, the warning that names it tells what stands in its place.
"""

from __future__ import annotations

import faulthandler
import math
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import wandb

from parallel_hpo.metric import MISSING, counting, find_value, lookup
from parallel_hpo.protocol.messages import MissingMetric
from parallel_hpo.words import Outcome
from parallel_hpo.worker.verdict import Verdict
from parallel_hpo.worker.watch import WATCH
from parallel_hpo.worker.wording import error_in_words

NOT_A_NUMBER: Final = {"NaN": "NaN", "Infinity": "infinity", "-Infinity": "-infinity"}
"""How wandb-core writes these into a summary; JSON has no words for them."""
SHOWN_CHARS: Final = 40

LONG_S: Final = 120.0
"""A run that is closed for longer waits for its server, or hangs: the stacks say which."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What a run counts as now that it is closed, and what its server knows of that."""

    verdict: Verdict
    value: float | None
    """The sweep's metric, as the run's summary has it."""
    told: bool
    """The server has heard of its end."""
    unsent: tuple[str, ...] = ()
    """Folders of what it wrote offline."""
    missing: MissingMetric | None = None
    """What it has in the metric's place, if it finished without one."""
    traceback: str = ""
    """Of the exception that it failed by."""


def close(verdict: Verdict) -> Closed:
    """Close the run that has left `main` on its server, with the verdict's exit code."""
    told = True
    if not WATCH.initialised:
        print(f"parallel_hpo: {verdict.reason}", file=sys.stderr)
    faulthandler.dump_traceback_later(LONG_S)  # into the worker's log, should wandb take so long
    try:
        WATCH.finish_runs(verdict.exit_code)
    except Exception as error:  # noqa: BLE001 - wandb raises what it likes once its service is gone
        traceback.print_exc()
        told = False
        if verdict.outcome is Outcome.FINISHED:
            reason = f"wandb could not close the run: {error_in_words(error)}"
            verdict = replace(verdict, outcome=Outcome.FAILED, reason=reason, exit_code=1)
    value, unsent = WATCH.read_value(), WATCH.offline_folders
    missing = _explain_missing() if value is None and verdict.outcome is Outcome.FINISHED else None
    if not WATCH.reached_server:
        told = tell_end(verdict.exit_code)
    faulthandler.cancel_dump_traceback_later()
    return Closed(verdict, value, told, unsent, missing)


def tell_end(exit_code: int) -> bool:
    """Open the run that is on and close it with this exit code; return whether the server has heard that.

    What `main` made of this process's client may be in the way: the second try begins with a new one.
    """
    for teardown in (False, True):
        try:
            if teardown:
                wandb.teardown()
            wandb.init(mode="online").finish(exit_code=exit_code)
        except Exception:  # noqa: BLE001 - as above
            traceback.print_exc()
        else:
            return True
    return False


def _explain_missing() -> MissingMetric | None:
    """Return what the run's summary has in the place of the sweep's metric; None where that has none."""
    summary = WATCH.read_summary()
    if WATCH.metric is None or summary is None:
        return None
    return explain_missing(summary, WATCH.metric, WATCH.goal)


def explain_missing(summary: Mapping[str, Any], metric: str, goal: str) -> MissingMetric | None:
    """Return what is there instead of a finite number, and what was logged; None: the metric is there."""
    if find_value(summary, metric, goal) is not None:
        return None
    found = counting(lookup(summary, metric), goal)
    return MissingMetric(_in_words(found), tuple(sorted(_logged(summary))))


def _in_words(value: object) -> str:
    if value is MISSING or value == {}:
        return "nothing"
    match value:
        case None:
            return "nothing"
        case bool():
            return f"a boolean, {str(value).lower()}"
        case str():
            return NOT_A_NUMBER.get(value, f"a text, {value[:SHOWN_CHARS]!r}")
        case float():
            return "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
        case int():
            return "a number that is too large"
        case list():
            return "a list"
        case Mapping():
            return f"an object of type {value['_type']}" if "_type" in value else "a table of values"
    return f"a {type(value).__name__}"


def _logged(summary: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """Yield the names under which something was logged, nested ones with dots; wandb's own begin with _."""
    for key, value in summary.items():
        if key.startswith("_"):
            continue
        if isinstance(value, Mapping) and value and "_type" not in value:
            yield from _logged(value, f"{outer}{key}.")
        else:
            yield f"{outer}{key}"
