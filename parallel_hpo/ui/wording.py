"""Puts notices and tallies into words, one line each, as styled text.

Pure; what is shown at which verbosity is decided here too, by returning None.
Imports `words` and the tally.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from enum import IntEnum
from typing import Any, Final

from rich.text import Text

from parallel_hpo.nested import NestedName, leaves
from parallel_hpo.notices import Message, Notice, RunBegan, RunOver, SweepOpened, WorkerChanged
from parallel_hpo.protocol.messages import MissingMetric
from parallel_hpo.ui.tally import Tally, time_left_s
from parallel_hpo.words import Outcome, Parameters, Slot, SlotState

Varied = frozenset[NestedName] | None
"""The parameters that differ from run to run, by their nested names; None: not known, show all."""

STYLES: Final[Mapping[Outcome, str]] = {
    Outcome.FINISHED: "green",
    Outcome.FAILED: "red",
    Outcome.STOPPED: "yellow",
    Outcome.CRASHED: "bold red",
}
_SHOWN_CHARS: Final = 40
"""A parameter's value is cut to this; the summary has it in full."""


_SHOWN_NAMES: Final = 10
"""So many of the names that a run logged are listed where the metric is not among them."""


class Verbosity(IntEnum):
    """How much is shown: warnings and the result; runs and output; workers' states too."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


def describe(notice: Notice, tally: Tally, varied: Varied, verbosity: Verbosity) -> Text | None:
    """Return a notice as a line; None where it isn't shown at this verbosity."""
    match notice:
        case Message(warning=True, text=text):
            return Text(f"warning: {text}", style="yellow")
        case MissingMetric():
            return _metric_missed(notice, tally)
        case WorkerChanged(state=SlotState.BACKOFF | SlotState.FATAL):
            return _worker_trouble(notice, tally)
        case _ if verbosity is Verbosity.QUIET:
            return None
        case Message(text=text):
            return Text(text)
        case SweepOpened():
            return _opened(notice)
        case RunBegan():
            return _began(notice, tally, varied)
        case RunOver():
            return _over(notice, tally)
        case WorkerChanged(slot=slot, state=state, reason=reason) if verbosity is Verbosity.VERBOSE:
            return Text(f"{tally.name_of(slot)} {state}{_after_colon(reason)}", style="dim")
        case _:
            return None


def prefix(slot: Slot, tally: Tally) -> str:
    """Return what stands before each line that a worker's process tree printed."""
    return f"[{tally.name_of(slot)}] "


def progress(tally: Tally, now: float) -> Text:
    """Return the progress line at `now` (seconds, on the tally's clock)."""
    count = tally.opened.count if tally.opened else None
    parts = [f"{tally.over}/{count} runs" if count else f"{tally.over} runs", f"{len(tally.running)} running"]
    failed = tally.done.get(Outcome.FAILED, 0) + tally.done.get(Outcome.CRASHED, 0)
    text = Text(" · ".join(parts), style="bold")
    text.append(f" · {failed} failed", style="bold red" if failed else "bold")
    if tally.best is not None:
        text.append(f" · best {metric_value(tally, tally.best)}", style="bold green")
    left_s = time_left_s(tally, now)
    return text if left_s is None else text.append(f" · {duration(left_s)} left")


def metric_value(tally: Tally, value: float) -> str:
    """Return a value under its metric's name: `loss=0.25`."""
    metric = tally.opened.metric if tally.opened else None
    return f"{metric or 'value'}={value:.6g}"


def duration(seconds: float) -> str:
    """Return a time as people say it: `3.2 s`, `2 min 5 s`, `1 h 3 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def some(number: int, thing: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def brief(parameters: Parameters, varied: Varied) -> str:
    """Return the parameters that matter as `lr=0.1 epochs=5`, each by the shortest name that is its own."""
    shown = {path: value for path, value in leaves(parameters) if _shown(path, varied)}
    return " ".join(f"{_name(path, shown)}={_cut(value)}" for path, value in shown.items())


def _opened(notice: SweepOpened) -> Text:
    runs = "runs without limit" if notice.count is None else some(notice.count, "run")
    shares = f" (shares {', '.join(map(str, notice.shares))})" if notice.shares else ""
    where = notice.machines or f"{some(notice.workers, 'worker')}{shares}"
    line = f"sweep {notice.path} ({notice.backend}): {runs} on {where}"
    return Text(f"{line}\n{notice.url}\nlogs: {notice.folder}")


def _began(notice: RunBegan, tally: Tally, varied: Varied) -> Text:
    again = f" again (attempt {notice.attempt})" if notice.attempt > 1 else ""
    text = Text(f"{tally.name_of(notice.slot)} run {notice.run_id} started{again}")
    return text.append(f"  {brief(notice.parameters, varied)}", style="dim")


def _over(notice: RunOver, tally: Tally) -> Text:
    text = Text(f"{tally.name_of(notice.slot)} run {notice.run_id} ")
    text.append(str(notice.outcome), style=STYLES[notice.outcome])
    text.append(f" in {duration(notice.duration_s)}")
    if notice.outcome is not Outcome.FINISHED and notice.reason:
        text.append(f"  {notice.reason}")
    if notice.value is not None:
        text.append(f"  {metric_value(tally, notice.value)}")
    return text.append("; it will be run again") if notice.again else text


def _metric_missed(missing: MissingMetric, tally: Tally) -> Text:
    opened = tally.opened
    metric = (opened.metric if opened else None) or ""
    line = f"warning: a run has finished without a number as the sweep's metric {metric!r}:"
    line += f" {missing.found} came instead; it logged {_listed(missing.logged) or 'nothing at all'}"
    others = [name for name in missing.logged if name != metric]
    if others:
        line += f"; the nearest name is {get_close_matches(metric, others, 1, cutoff=0.0)[0]!r}"
    if opened is not None and opened.method == "bayes":
        line += "; the search is blind: bayes learns from the metric alone"
    return Text(line, style="yellow")


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _worker_trouble(notice: WorkerChanged, tally: Tally) -> Text:
    what = "gave up" if notice.state is SlotState.FATAL else "died, and will be started again"
    return Text(f"{tally.name_of(notice.slot)} {what}{_after_colon(notice.reason)}", style="yellow")


def _after_colon(reason: str) -> str:
    return f": {reason}" if reason else ""


def _shown(path: NestedName, varied: Varied) -> bool:
    # A value may itself be an object: then the parameter is one of the path's beginnings.
    return varied is None or any(path[:end] in varied for end in range(1, len(path) + 1))


def _name(path: NestedName, others: Mapping[NestedName, Any]) -> str:
    own = [
        end for end in range(1, len(path) + 1) if sum(other[-end:] == path[-end:] for other in others) == 1
    ]
    return ".".join(path[-own[0] :] if own else path)


def _cut(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def is_chatter(line: str) -> bool:
    """Whether it is one of the twenty lines that wandb's client prints of each run: the log has them."""
    words = line.split()
    return bool(words) and words[0] == "wandb:" and words[1:2] not in (["WARNING"], ["ERROR"])
