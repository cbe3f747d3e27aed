"""Asks the sweep server in a thread of its own, so that a server that is away holds up no decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from glob import escape
from pathlib import Path
from typing import Final

from parallel_hpo.backend.base import Backend
from parallel_hpo.errors import ParallelHPOError
from parallel_hpo.supervisor.events import SweepSeen
from parallel_hpo.words import Message, Observer, Outcome, RunId, SweepPath

STATES: Final[Mapping[Outcome, str]] = {
    Outcome.FINISHED: "finished",
    Outcome.FAILED: "failed",
    Outcome.STOPPED: "killed",
    Outcome.CRASHED: "crashed",
}
"""What a run's outcome is called on a server."""


class Courier:
    """One sweep's line to its server; requests are made one after another, in the order of their asking."""

    def __init__(
        self,
        backend: Backend,
        path: SweepPath,
        *,
        folder: Path,
        observer: Observer,
        post: Callable[[SweepSeen], None],
    ) -> None:
        """`folder` is the sweep's; `post` is given the answers, in the courier's thread."""
        self._backend = backend
        self._path = path
        self._folder = folder
        self._observer = observer
        self._post = post
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parallel_hpo-courier")

    def give_back(self, label: str, keep: Sequence[RunId]) -> None:
        """Let others have what the dead worker `label` was issued and never started."""
        self._submit(lambda: self._backend.give_back(self._path, label, keep))

    def end_run(self, run_id: RunId, state: str, *, send_rest: bool) -> None:
        """Tell the server of a run's end that its process can't tell.

        `send_rest`: it is not run again, so that what its client has not sent is sent before.
        """
        if send_rest:
            self._submit(lambda: self._send_rest(run_id))
        self._submit(lambda: self._backend.end_run(self._path, run_id, state))

    def tell_end(self, run_id: RunId, outcome: Outcome | None, unsent: Sequence[Path]) -> None:
        """Send what a run wrote offline; tell of its end too, unless it has done so (`outcome` is None)."""
        for folder in unsent:
            self._submit(partial(self._send, run_id, folder))
        if outcome is not None:
            self._submit(lambda: self._backend.end_run(self._path, run_id, STATES[outcome]))

    def finish_sweep(self) -> None:
        """Set the sweep to finished."""
        self._submit(lambda: self._backend.finish_sweep(self._path))

    def ask_sweep(self) -> None:
        """Ask whether the sweep goes on; SweepSeen is posted."""
        self._submit(self._ask)

    def close(self) -> None:
        """Wait for the requests that were made."""
        self._thread.shutdown(wait=True)

    def _ask(self) -> None:
        over = ""
        try:
            over = self._backend.why_over(self._path)
        finally:
            self._post(SweepSeen(over))

    def _send_rest(self, run_id: RunId) -> None:
        """Send what a dead run's client left in the run's folder, or say where it is."""
        folder = last_run_folder(self._folder, run_id)
        if folder is not None:
            self._send(run_id, folder)

    def _send(self, run_id: RunId, folder: Path) -> None:
        try:
            self._backend.send_rest(folder)
        except ParallelHPOError as error:
            words = (
                f"run {run_id}: what it had not sent yet was not sent ({error});"
                f" send it by: wandb sync --include-online {folder}"
            )
            self._observer(Message(words, warning=True))

    def _submit(self, request: Callable[[], None]) -> None:
        self._thread.submit(request).add_done_callback(self._warn)

    def _warn(self, done: Future[None]) -> None:
        error = done.exception()
        if isinstance(error, ParallelHPOError):
            self._observer(Message(f"the sweep server did not answer: {error}", warning=True))
        elif error is not None:
            raise error


def last_run_folder(folder: Path, run_id: RunId) -> Path | None:
    """Return the run's folder of its last attempt, in whichever slot that was; None: it has none there.

    wandb client: `<WANDB_DIR>/wandb/run-<date>_<time>-<run id>`.
    """
    found = folder.glob(f"worker-*/wandb/run-*-{escape(run_id)}")
    return max(found, key=lambda path: path.name, default=None)
