"""What follows a run that failed or crashed for good: its folder, and the user's `on_failure`.

    loop ── FailedRun ──▶ a few threads ──▶ <sweep id>/failed/<run id>/ ──▶ on_failure

The loop waits for none of it; the sweep's end does, unless a stop leaves no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from parallel_hpo.notices import Message, Observer
from parallel_hpo.protocol.ends import AttemptEnd
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.records.failed_runs import FAILED, FailedRun, write_failed_run
from parallel_hpo.supervisor.records.ledger_reader import RunRow
from parallel_hpo.supervisor.records.summary import describe_run
from parallel_hpo.words import Outcome

BAD: Final = (Outcome.FAILED, Outcome.CRASHED)
"""Ends of a run that somebody wants to look into."""
THREADS: Final = 4
"""So many commands at once: fifty runs that fail alike must not hold up the end for fifty times 30 s."""
TAIL_LIMIT_S: Final = 5.0
"""The last lines are there in milliseconds, unless the disk of the logs hangs."""


class Aftermath:
    """Sees to the failed runs of one sweep."""

    def __init__(
        self, folder: Path, command: Sequence[str], *, commands: Commands, observer: Observer
    ) -> None:
        """`folder` is the sweep's own; `command` are the words of `on_failure`, if there are any."""
        self._folder = folder
        self._command = command
        self._commands = commands
        self._observer = observer
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="parallel_hpo-aftermath")
        self._jobs: list[Future[None]] = []

    def take(
        self, row: RunRow, end: AttemptEnd, tail: Future[list[str]], environment: Mapping[str, str]
    ) -> None:
        """See to a run of the ledger that ended so; `tail` will be what it printed last."""
        ended = replace(
            row, outcome=end.outcome, reason=end.reason, value=end.value, duration_s=end.duration_s
        )
        self._jobs.append(self._threads.submit(self._see_to, ended, end.traceback, tail, environment))

    def finish(self) -> None:
        """Wait until all of it is done."""
        wait(self._jobs)

    def give_up(self) -> None:
        """Begin nothing any more, and end what is under way."""
        left = sum(job.cancel() for job in self._jobs)
        self._commands.give_up()
        self._threads.shutdown(wait=False)
        if left:
            words = (
                f"{left} failed runs have no folder, and on_failure was not called for them: no time was left"
            )
            self._observer(Message(words, warning=True))

    def _see_to(
        self, row: RunRow, traceback: str, tail: Future[list[str]], environment: Mapping[str, str]
    ) -> None:
        folder = self._folder / FAILED / row.run_id
        failed = FailedRun(describe_run(row), traceback, _lines(tail), environment)
        told = {**asdict(failed.run), "sweep_id": self._folder.name, "folder": str(folder)}
        try:
            write_failed_run(folder, failed, told)
        except OSError as error:
            self._warn(f"the folder of failed run {row.run_id} could not be written: {error}")
        if self._command and (why := self._commands.run(self._command, json.dumps(told))):
            self._warn(f"on_failure for run {row.run_id}: {why}")

    def _warn(self, words: str) -> None:
        self._observer(Message(words, warning=True))


def _lines(tail: Future[list[str]]) -> list[str]:
    try:
        return tail.result(TAIL_LIMIT_S)
    except NotInTime:
        return []
