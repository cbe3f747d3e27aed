"""Puts a sweep's result into words: the best run, the counts, why it ended, where the logs are.

Pure. Imports the tally, for the metric's name and the folder, and the type of a
result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.text import Text

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import in_words
from parallel_hpo.core.types import Outcome
from parallel_hpo.display.text import STYLES, RunCounts, Varied, brief, duration, metric_value, some

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

_SHOWN_REASONS: Final = 5
"""So many different failures are named; the rest are in the summary file."""


def counts(result: SweepResult) -> Text:
    """Return how many runs ended how, in one line."""
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
        text.append(f"; {some(result.retried, 'attempt')} made again")
    if result.lost:
        text.append(f"; {result.lost} lost, which must not happen: please report it", style="bold red")
    return text


def is_left_over(result: SweepResult) -> bool:
    """Whether the sweep ended before it was complete, so that it can be resumed."""
    complete = (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
    return bool(result.sweep_id) and result.exit_code not in complete


def describe_briefly(result: SweepResult, tally: RunCounts, varied: Varied) -> Iterator[Text]:
    """Yield the lines of a quiet display: which sweep, how many runs ended how, the best of them."""
    yield Text.assemble(f"sweep {result.sweep_id}: " if result.sweep_id else "", counts(result))
    yield _best(result, tally, varied)


def describe_result(result: SweepResult, tally: RunCounts, varied: Varied) -> Iterator[Text]:
    """Yield the lines that end a sweep's display."""
    yield counts(result)
    yield from _failures(result)
    yield _best(result, tally, varied)
    if result.machines:
        shares = ", ".join(f"{each.name} {each.runs}" for each in result.machines)
        yield Text(f"runs by machine: {shares}")
    if result.consumption:
        yield Text(f"used: {in_words(result.consumption)}")
    yield Text(f"ended: {result.stop_reason}")
    if tally.opened:
        yield Text(f"summary and logs: {tally.opened.folder}")


def _best(result: SweepResult, tally: RunCounts, varied: Varied) -> Text:
    if result.best is None:
        return Text("no run finished with a value to compare")
    told = f"best: run {result.best.run_id}  {metric_value(tally, result.best.value)}"
    text = Text(told, style="bold green")
    return text.append(f"  {brief(result.best.parameters, varied)}", style="not bold default")


def _failures(result: SweepResult) -> Iterator[Text]:
    reasons = Counter(
        (run.outcome, run.reason) for run in result.runs if run.outcome in (Outcome.FAILED, Outcome.CRASHED)
    )
    for (outcome, reason), times in reasons.most_common(_SHOWN_REASONS):
        yield Text(f"  {times} × {outcome}: {reason}", style=STYLES[Outcome(outcome)])
    if len(reasons) > _SHOWN_REASONS:
        yield Text(f"  and {len(reasons) - _SHOWN_REASONS} more, in the summary")
