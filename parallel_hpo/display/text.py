"""Notices, counts and result of a sweep as lines of styled text, and which of them each verbosity shows.

`advance` takes the counts and a notice, and returns the next counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rich.text import Text

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import MissingMetric, in_words
from parallel_hpo.core.notices import (
    Message,
    Notice,
    RunBegan,
    RunOver,
    SweepOpened,
    WorkerChanged,
    WorkerNamed,
)
from parallel_hpo.core.types import Outcome, Parameters, RunId, Slot, SlotState
from parallel_hpo.core.values import NestedName, leaves

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult


@dataclass(frozen=True, slots=True)
class Improvement:
    """A finished run that was the best so far."""

    run_id: RunId
    value: float
    parameters: Parameters
    ended: int
    """Number of ended runs at its end, this one included."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Counts of a sweep's runs and its best ones; `began_s` is on the clock of `advance`'s `now`."""

    opened: SweepOpened | None = None
    began_s: float = 0.0
    running: Mapping[Slot, RunBegan] = field(default_factory=dict)
    done: Mapping[Outcome, int] = field(default_factory=dict)
    """Number of ended runs by outcome, without those that will be retried."""
    improvements: tuple[Improvement, ...] = ()
    """Each run that was the best so far; the last one is the best."""
    names: Mapping[Slot, str] = field(default_factory=dict)
    """Display names of workers on many machines."""

    def name_of(self, slot: Slot) -> str:
        """Return the display name of a slot's worker: `w0`, or `gpu2/w0`."""
        return self.names.get(slot, f"w{slot}")

    @property
    def over(self) -> int:
        """Number of ended runs, without those that will be retried."""
        return sum(self.done.values())


def advance(counts: RunCounts, notice: Notice, now: float) -> RunCounts:
    """Return the counts after a notice at `now` (seconds)."""
    match notice:
        case SweepOpened():
            return replace(counts, opened=notice, began_s=now)
        case RunBegan(slot=slot):
            return replace(counts, running={**counts.running, slot: notice})
        case RunOver():
            return _after_run(counts, notice)
        case WorkerNamed(slot=slot, name=name):
            return replace(counts, names={**counts.names, slot: name})
        case _:
            return counts


def time_left_s(counts: RunCounts, now: float) -> float | None:
    """Return the estimated remaining seconds, at the average speed so far; None if unknown."""
    count = counts.opened.count if counts.opened else None
    if count is None or counts.over == 0:
        return None
    return (now - counts.began_s) / counts.over * max(count - counts.over, 0)


def _after_run(counts: RunCounts, notice: RunOver) -> RunCounts:
    running = {slot: run for slot, run in counts.running.items() if slot != notice.slot}
    if notice.again:
        return replace(counts, running=running)
    done = {**counts.done, notice.outcome: counts.done.get(notice.outcome, 0) + 1}
    after = replace(counts, running=running, done=done)
    if notice.value is None or not _is_better(counts, notice.outcome, notice.value):
        return after
    began = counts.running.get(notice.slot)
    parameters = began.parameters if began is not None else {}
    new = Improvement(notice.run_id, notice.value, parameters, after.over)
    return replace(after, improvements=(*counts.improvements, new))


def _is_better(counts: RunCounts, outcome: Outcome, value: float) -> bool:
    if outcome is not Outcome.FINISHED or not math.isfinite(value):
        return False
    if not counts.improvements:
        return True
    best = counts.improvements[-1].value
    maximize = counts.opened is not None and counts.opened.goal == "maximize"
    return value > best if maximize else value < best


Varied = frozenset[NestedName] | None
"""Nested names of parameters that differ between runs; None: unknown, show all."""

STYLES: Final[Mapping[Outcome, str]] = {
    Outcome.FINISHED: "green",
    Outcome.FAILED: "red",
    Outcome.STOPPED: "yellow",
    Outcome.CRASHED: "bold red",
}
_SHOWN_CHARS: Final = 40
"""Maximum shown characters of a parameter's value; the summary has all of it."""


_SHOWN_NAMES: Final = 10
"""Maximum number of logged names in the warning about a missing metric."""


class Verbosity(IntEnum):
    """What is shown: warnings and the result; also runs and output; also workers' states."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


def describe(notice: Notice, counts: RunCounts, varied: Varied, verbosity: Verbosity) -> Text | None:
    """Return a notice as a line; None if it isn't shown at this verbosity."""
    match notice:
        case Message(warning=True, text=text):
            return Text(f"warning: {text}", style="yellow")
        case MissingMetric():
            return _metric_missed(notice, counts)
        case WorkerChanged(state=SlotState.BACKOFF | SlotState.FATAL):
            return _worker_trouble(notice, counts)
        case _ if verbosity is Verbosity.QUIET:
            return None
        case Message(text=text):
            return Text(text)
        case SweepOpened():
            return _opened(notice)
        case RunBegan():
            return _began(notice, counts, varied)
        case RunOver():
            return _over(notice, counts)
        case WorkerChanged(slot=slot, state=state, reason=reason) if verbosity is Verbosity.VERBOSE:
            return Text(f"{counts.name_of(slot)} {state}{_after_colon(reason)}", style="dim")
        case _:
            return None


def prefix(slot: Slot, counts: RunCounts) -> str:
    """Return the prefix of the output lines of a worker."""
    return f"[{counts.name_of(slot)}] "


def progress(counts: RunCounts, now: float) -> Text:
    """Return the progress line at `now` (seconds, on the counts' clock)."""
    count = counts.opened.count if counts.opened else None
    runs = f"{counts.over}/{count} runs" if count else f"{counts.over} runs"
    failed = counts.done.get(Outcome.FAILED, 0) + counts.done.get(Outcome.CRASHED, 0)
    text = Text(f"{runs} · {len(counts.running)} running", style="bold")
    text.append(f" · {failed} failed", style="bold red" if failed else "bold")
    left_s = time_left_s(counts, now)
    return text if left_s is None else text.append(f" · {duration(left_s)} left")


def best_so_far(counts: RunCounts, varied: Varied) -> Text | None:
    """Return the best run so far with its value and parameters."""
    if not counts.improvements:
        return None
    best = counts.improvements[-1]
    return _best_run(counts, best.run_id, best.value, best.parameters, varied)


def progress_bar(counts: RunCounts, cells: int) -> Text:
    """Return a bar of the ended and running runs in their colours, and a space; empty without a count."""
    count = counts.opened.count if counts.opened else None
    bar = Text()
    if not count:
        return bar
    parts = [(style, counts.done.get(outcome, 0)) for outcome, style in STYLES.items()]
    runs = 0
    for style, number in (*parts, ("cyan", len(counts.running))):
        runs = min(runs + number, count)
        bar.append("━" * (cells * runs // count - bar.cell_len), style)
    return bar.append("─" * (cells - bar.cell_len) + " ", "dim")


def metric_value(counts: RunCounts, value: float) -> str:
    """Return a value with its metric's name: `loss=0.25`."""
    return f"{metric_name(counts)}={value:.6g}"


def metric_name(counts: RunCounts) -> str:
    """Return the name of the sweep's metric."""
    return (counts.opened.metric if counts.opened else None) or "value"


def duration(seconds: float) -> str:
    """Return a duration as text: `3.2 s`, `2 min 5 s`, `1 h 3 min`."""
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
    """Return the varied parameters as `lr=0.1 epochs=5`, each with its shortest unique name."""
    shown = {path: value for path, value in leaves(parameters) if _shown(path, varied)}
    names = _short_names(tuple(shown))
    return " ".join(f"{name}={_cut(value)}" for name, value in zip(names, shown.values(), strict=True))


def _opened(notice: SweepOpened) -> Text:
    runs = "runs without limit" if notice.count is None else some(notice.count, "run")
    shares = f" (shares {', '.join(map(str, notice.shares))})" if notice.shares else ""
    where = notice.machines or f"{some(notice.workers, 'worker')}{shares}"
    line = f"sweep {notice.path} ({notice.backend}): {runs} on {where}"
    return Text(f"{line}\n{notice.url}\nlogs: {notice.folder}")


def _began(notice: RunBegan, counts: RunCounts, varied: Varied) -> Text:
    again = f" again (attempt {notice.attempt})" if notice.attempt > 1 else ""
    text = Text(f"{counts.name_of(notice.slot)} run {notice.run_id} started{again}")
    return text.append(f"  {brief(notice.parameters, varied)}", style="dim")


def _over(notice: RunOver, counts: RunCounts) -> Text:
    text = Text(f"{counts.name_of(notice.slot)} run {notice.run_id} ")
    text.append(str(notice.outcome), style=STYLES[notice.outcome])
    text.append(f" in {duration(notice.duration_s)}")
    if notice.outcome is not Outcome.FINISHED and notice.reason:
        text.append(f"  {notice.reason}")
    if notice.value is not None:
        text.append(f"  {metric_value(counts, notice.value)}")
    return text.append("; it will be retried") if notice.again else text


def _metric_missed(missing: MissingMetric, counts: RunCounts) -> Text:
    opened = counts.opened
    metric = (opened.metric if opened else None) or ""
    line = f"warning: a run finished without a number for the sweep's metric {metric!r}:"
    line += f" got {missing.found}; it logged {_listed(missing.logged) or 'nothing at all'}"
    others = [name for name in missing.logged if name != metric]
    if others:
        line += f"; the nearest name is {get_close_matches(metric, others, 1, cutoff=0.0)[0]!r}"
    if opened is not None and opened.method == "bayes":
        line += "; bayes can't learn without the metric's values"
    return Text(line, style="yellow")


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _worker_trouble(notice: WorkerChanged, counts: RunCounts) -> Text:
    what = "gave up" if notice.state is SlotState.FATAL else "died and will be restarted"
    return Text(f"{counts.name_of(notice.slot)} {what}{_after_colon(notice.reason)}", style="yellow")


def _after_colon(reason: str) -> str:
    return f": {reason}" if reason else ""


def _shown(path: NestedName, varied: Varied) -> bool:
    # A value may itself be an object; then the parameter's path is a prefix of `path`.
    return varied is None or any(path[:end] in varied for end in range(1, len(path) + 1))


@lru_cache(maxsize=64)
def _short_names(paths: tuple[NestedName, ...]) -> list[str]:
    """Return the shortest unique names of parameters; most runs have the same ones."""
    return [_short_name(path, paths) for path in paths]


def _short_name(path: NestedName, others: tuple[NestedName, ...]) -> str:
    own = [
        end for end in range(1, len(path) + 1) if sum(other[-end:] == path[-end:] for other in others) == 1
    ]
    return ".".join(path[-own[0] :] if own else path)


def _cut(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def is_chatter(line: str) -> bool:
    """Return whether it is one of the twenty lines per run that wandb's client prints; the log has them."""
    words = line.split()
    return bool(words) and words[0] == "wandb:" and words[1:2] not in (["WARNING"], ["ERROR"])


_SHOWN_REASONS: Final = 5
"""Maximum number of different failures shown; the summary file has all."""


def describe_counts(result: SweepResult) -> Text:
    """Return the number of runs by outcome, in one line."""
    numbers = (
        (Outcome.FINISHED, result.finished),
        (Outcome.FAILED, result.failed),
        (Outcome.CRASHED, result.crashed),
        (Outcome.STOPPED, result.stopped),
    )
    text = Text(f"{some(result.attempted, 'run')} in {duration(result.duration_s)}: ")
    shown = [(outcome, number) for outcome, number in numbers if number or outcome is Outcome.FINISHED]
    text.append(
        Text(", ").join(Text(f"{number} {outcome}", style=STYLES[outcome]) for outcome, number in shown)
    )
    if result.retried:
        text.append(f"; {some(result.retried, 'attempt')} retried")
    if result.lost:
        text.append(f"; {result.lost} lost, which is a bug: please report it", style="bold red")
    return text


def is_left_over(result: SweepResult) -> bool:
    """Return whether the sweep ended incomplete, so that it can be resumed."""
    complete = (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
    return bool(result.sweep_id) and result.exit_code not in complete


def describe_briefly(result: SweepResult, counts: RunCounts, varied: Varied) -> Iterator[Text]:
    """Yield the lines of a quiet display: the sweep, its runs by outcome, the best run."""
    yield Text.assemble(f"sweep {result.sweep_id}: " if result.sweep_id else "", describe_counts(result))
    yield _best(result, counts, varied)


def describe_result(result: SweepResult, counts: RunCounts, varied: Varied) -> Iterator[Text]:
    """Yield the lines that end a sweep's display."""
    yield describe_counts(result)
    yield from _failures(result)
    yield _best(result, counts, varied)
    if result.machines:
        shares = ", ".join(f"{each.name} {each.runs}" for each in result.machines)
        yield Text(f"runs by machine: {shares}")
    if result.consumption:
        yield Text(f"used: {in_words(result.consumption)}")
    yield Text(f"ended: {result.stop_reason}")
    if counts.opened:
        yield Text(f"summary and logs: {counts.opened.folder}")


def _best(result: SweepResult, counts: RunCounts, varied: Varied) -> Text:
    if result.best is None:
        return Text("no run finished with a value to compare")
    best = result.best
    return _best_run(counts, best.run_id, best.value, best.parameters, varied)


def _best_run(counts: RunCounts, run_id: str, value: float, parameters: Parameters, varied: Varied) -> Text:
    text = Text(f"best: run {run_id}  {metric_value(counts, value)}", style="bold green")
    return text.append(f"  {brief(parameters, varied)}", style="not bold default")


def _failures(result: SweepResult) -> Iterator[Text]:
    reasons = Counter(
        (run.outcome, run.reason) for run in result.runs if run.outcome in (Outcome.FAILED, Outcome.CRASHED)
    )
    for (outcome, reason), times in reasons.most_common(_SHOWN_REASONS):
        yield Text(f"  {times} × {outcome}: {reason}", style=STYLES[Outcome(outcome)])
    if len(reasons) > _SHOWN_REASONS:
        yield Text(f"  and {len(reasons) - _SHOWN_REASONS} more, in the summary")
