"""Requests to the sweep server in a thread of its own, so that an unreachable server delays no decision.

If a stop leaves no time for some, a warning names them. The ledger has their facts, and a resumed sweep
reports what an earlier launch could not (`catch_up`).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final

from parallel_hpo.client.base import Backend
from parallel_hpo.core.errors import ParallelHPOError
from parallel_hpo.core.folders import run_folders_of_workers
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Outcome, RunId, SweepPath
from parallel_hpo.session.decide.events import SweepSeen
from parallel_hpo.session.resume import ResumeState, unsent_folders
from parallel_hpo.session.waiting import StopAware, StoppedError

STATES: Final[Mapping[Outcome, str]] = {
    Outcome.FINISHED: "finished",
    Outcome.FAILED: "failed",
    Outcome.STOPPED: "killed",
    Outcome.CRASHED: "crashed",
}
"""State of a run on a server, by its outcome."""

LAST_S: Final = 1.0
"""Timeout of the last requests after a bug of ours, in seconds."""
NAMED: Final = 5
"""Maximum number of failed requests in a warning."""


class ServerCalls:
    """One sweep's requests to its server, made one after another in order."""

    def __init__(
        self,
        backend: Backend,
        path: SweepPath,
        *,
        folder: Path,
        observer: Observer,
        post: Callable[[SweepSeen], None],
    ) -> None:
        """`folder` is the sweep's; `post` gets the answers, in this object's thread."""
        self._backend = backend
        self._path = path
        self._folder = folder
        self._observer = observer
        self._post = post
        self._requests: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._unsent: list[str] = []
        self._lock = threading.Lock()
        """Held so that nothing is shown or posted after `close`."""
        self._given_up = False
        self._thread = threading.Thread(target=self._deliver, name="parallel_hpo-server_calls", daemon=True)
        self._thread.start()

    def requeue_runs(self, label: str, keep: Sequence[RunId]) -> None:
        """Return the runs that the dead worker `label` was issued and did not start."""
        self._submit(
            "what a worker was issued and did not start",
            lambda: self._backend.requeue_runs(self._path, label, keep),
        )

    def end_run(self, run_id: RunId, state: str, *, send_rest: bool) -> None:
        """Report a run's end for its process, which could not.

        `send_rest`: first upload what its client has not sent, as the run is not run again.
        """
        if send_rest:
            self._submit(f"the rest of run {run_id}", lambda: self._send_rest(run_id))
        request = f"the end of run {run_id}"
        self._submit(request, lambda: self._backend.end_run(self._path, run_id, state))

    def report_end(self, run_id: RunId, outcome: Outcome | None, unsent: Sequence[Path]) -> None:
        """Upload a run's offline data, and report its end unless the run did (`outcome` is None)."""
        for folder in unsent:
            what = f"what run {run_id} wrote offline (send it by: wandb sync {folder})"
            self._submit(what, partial(self._send, run_id, folder))
        if outcome is not None:
            tell = partial(self._backend.end_run, self._path, run_id, STATES[outcome])
            self._submit(f"the end of run {run_id}", tell)

    def report_earlier_ends(self, ended: Mapping[RunId, Outcome]) -> None:
        """Report ends that an earlier launch recorded but could not report."""
        self._submit("what an earlier launch could not tell", lambda: self._report_earlier_ends(ended))

    def finish_sweep(self) -> None:
        """Set the sweep to finished."""
        self._submit("the sweep's end", lambda: self._backend.finish_sweep(self._path))

    def ask_sweep(self) -> None:
        """Ask whether the sweep goes on; the answer is posted as SweepSeen."""
        self._submit("", self._ask)

    def flush(self, waits: StopAware) -> None:
        """Wait for all requests; on a stop, warn about those not made, and raise StoppedError."""
        done: Future[None] = Future()
        self._submit("", lambda: done.set_result(None))
        try:
            waits.wait_for(done)
        except StoppedError:
            self.close(within_s=0)
            raise

    def close(self, *, within_s: float = LAST_S) -> None:
        """End the thread; warn about the requests not made in this time."""
        self._requests.put(None)
        self._thread.join(within_s)
        with self._lock:
            unsent = [] if self._given_up else [what for what in dict.fromkeys(self._unsent) if what]
            self._given_up = True
        if unsent:
            more = f" and {len(unsent) - NAMED} more" if len(unsent) > NAMED else ""
            words = f"the sweep server did not receive {', '.join(unsent[:NAMED])}{more}"
            self._observer(Message(f"{words}: --resume reports the ends", warning=True))

    def _ask(self) -> None:
        over = ""
        try:
            over = self._backend.end_reason(self._path) or ""
        finally:
            with self._lock:
                if not self._given_up:
                    self._post(SweepSeen(over))

    def _report_earlier_ends(self, ended: Mapping[RunId, Outcome]) -> None:
        for run_id, state in self._backend.unconfirmed_runs(self._path).items():
            if run_id in ended and STATES[ended[run_id]] != state:
                self._backend.end_run(self._path, run_id, STATES[ended[run_id]])

    def _send_rest(self, run_id: RunId) -> None:
        """Upload what a dead run's client left in the run's folder, or warn where it is."""
        folder = last_run_folder(self._folder, run_id)
        if folder is not None:
            self._send(run_id, folder)

    def _send(self, run_id: RunId, folder: Path) -> None:
        try:
            self._backend.send_rest(folder)
        except ParallelHPOError as error:
            words = (
                f"run {run_id}: its last data was not sent ({error});"
                f" send it by: wandb sync --include-online {folder}"
            )
            self._say(words)

    def _submit(self, what: str, request: Callable[[], None]) -> None:
        """Queue a request; `what` names it in warnings, empty for a question."""
        self._unsent.append(what)
        self._requests.put((what, request))

    def _deliver(self) -> None:
        while (entry := self._requests.get()) is not None and not self._given_up:
            what, request = entry
            try:
                request()
            except ParallelHPOError as error:
                self._say(f"the sweep server did not answer: {error}")
            except Exception as error:  # noqa: BLE001 - a bug in one request must not stop the others
                self._say(f"the sweep server did not receive {what}: {error!r}")
            self._unsent.remove(what)

    def _say(self, words: str) -> None:
        with self._lock:
            if not self._given_up:
                self._observer(Message(words, warning=True))


def last_run_folder(folder: Path, run_id: RunId) -> Path | None:
    """Return the folder of the run's last online attempt, in any slot, if there is one."""
    found = run_folders_of_workers(folder)
    last = max((each for each in found if each.run_id == run_id and not each.offline), default=None)
    return None if last is None else Path(last.path)


def catch_up(
    server_calls: ServerCalls,
    marks: Sequence[str],
    earlier: ResumeState,
    folder: Path,
    last_starts: Callable[[], Mapping[RunId, float]],
) -> None:
    """Return the runs that earlier sessions (`marks`) left, and report ends that the server lacks."""
    for mark in marks:
        server_calls.requeue_runs(mark, [run.run_id for run in earlier.reruns])
    if marks:
        server_calls.report_earlier_ends(earlier.ended)
        for run_id, unsent in unsent_folders(folder, earlier.ended, last_starts):
            server_calls.report_end(run_id, earlier.ended[run_id], [unsent])
