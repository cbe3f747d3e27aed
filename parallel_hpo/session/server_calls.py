"""Asks the sweep server in a thread of its own, so that a server that is away holds up no decision.

What a stop leaves no time to tell is named; the ledger knows it, and a resumed sweep settles it: it
catches up on what the server is yet to hear of the part that an earlier supervisor performed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
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
"""What a run's outcome is called on a server."""

LAST_S: Final = 1.0
"""So long is waited at the very end for requests that nobody has waited for: after a fault of ours."""
NAMED: Final = 5
"""Of what the server was not told, so much is named."""


class ServerCalls:
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
        """`folder` is the sweep's; `post` is given the answers, in the thread of these calls."""
        self._backend = backend
        self._path = path
        self._folder = folder
        self._observer = observer
        self._post = post
        self._requests: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._untold: list[str] = []
        self._lock = threading.Lock()
        """Held so that nothing is said or posted once nobody listens."""
        self._given_up = False
        self._thread = threading.Thread(target=self._deliver, name="parallel_hpo-server_calls", daemon=True)
        self._thread.start()

    def give_back(self, label: str, keep: Sequence[RunId]) -> None:
        """Let others have what the dead worker `label` was issued and never started."""
        self._submit(
            "what a worker was issued and did not start",
            lambda: self._backend.give_back(self._path, label, keep),
        )

    def end_run(self, run_id: RunId, state: str, *, send_rest: bool) -> None:
        """Tell the server of a run's end that its process can't tell.

        `send_rest`: it is not run again, so that what its client has not sent is sent before.
        """
        if send_rest:
            self._submit(f"the rest of run {run_id}", lambda: self._send_rest(run_id))
        request = f"the end of run {run_id}"
        self._submit(request, lambda: self._backend.end_run(self._path, run_id, state))

    def report_end(self, run_id: RunId, outcome: Outcome | None, unsent: Sequence[Path]) -> None:
        """Send what a run wrote offline; tell of its end too, unless it has done so (`outcome` is None)."""
        for folder in unsent:
            what = f"what run {run_id} wrote offline (send it by: wandb sync {folder})"
            self._submit(what, partial(self._send, run_id, folder))
        if outcome is not None:
            tell = partial(self._backend.end_run, self._path, run_id, STATES[outcome])
            self._submit(f"the end of run {run_id}", tell)

    def settle_earlier(self, ended: Mapping[RunId, Outcome]) -> None:
        """Tell the server of ends that an earlier launch recorded and could not tell."""
        self._submit("what an earlier launch could not tell", lambda: self._settle_earlier(ended))

    def finish_sweep(self) -> None:
        """Set the sweep to finished."""
        self._submit("the sweep's end", lambda: self._backend.finish_sweep(self._path))

    def ask_sweep(self) -> None:
        """Ask whether the sweep goes on; SweepSeen is posted."""
        self._submit("", self._ask)

    def look(self, look: Callable[[], Iterable[Message]]) -> None:
        """Have a look taken at the server, and what is found there said."""
        self._submit("", lambda: self._say_all(look()))

    def settle(self, patience: StopAware) -> None:
        """Wait for the requests that were made; raises StoppedError, and says what was not told."""
        done: Future[None] = Future()
        self._submit("", lambda: done.set_result(None))
        try:
            patience.wait_for(done)
        except StoppedError:
            self.close(within_s=0)
            raise

    def close(self, *, within_s: float = LAST_S) -> None:
        """End the thread; what it has not told within so long is given up, and said."""
        self._requests.put(None)
        self._thread.join(within_s)
        with self._lock:
            untold = [] if self._given_up else [what for what in dict.fromkeys(self._untold) if what]
            self._given_up = True
        if untold:
            more = f" and {len(untold) - NAMED} more" if len(untold) > NAMED else ""
            words = f"the sweep server was not told of {', '.join(untold[:NAMED])}{more}"
            self._observer(Message(f"{words}: --resume settles the ends", warning=True))

    def _ask(self) -> None:
        over = ""
        try:
            over = self._backend.why_over(self._path)
        finally:
            with self._lock:
                if not self._given_up:
                    self._post(SweepSeen(over))

    def _settle_earlier(self, ended: Mapping[RunId, Outcome]) -> None:
        for run_id, state in self._backend.without_own_word(self._path).items():
            if run_id in ended and STATES[ended[run_id]] != state:
                self._backend.end_run(self._path, run_id, STATES[ended[run_id]])

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
            self._say(words)

    def _submit(self, what: str, request: Callable[[], None]) -> None:
        """Have a request made; `what` it tells the server, empty where it asks something."""
        self._untold.append(what)
        self._requests.put((what, request))

    def _deliver(self) -> None:
        while (entry := self._requests.get()) is not None and not self._given_up:
            what, request = entry
            try:
                request()
            except ParallelHPOError as error:
                self._say(f"the sweep server did not answer: {error}")
            except Exception as error:  # noqa: BLE001 - a fault of ours must not leave the others untold
                self._say(f"the sweep server was not told of {what}: {error!r}")
            self._untold.remove(what)

    def _say(self, words: str) -> None:
        self._say_all([Message(words, warning=True)])

    def _say_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            with self._lock:
                if not self._given_up:
                    self._observer(message)


def last_run_folder(folder: Path, run_id: RunId) -> Path | None:
    """Return the run's folder of its last attempt, in whichever slot that was; None: it has none there."""
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
    """Have it take back what the supervisors of these marks left, and told of ends that it has not heard."""
    for mark in marks:
        server_calls.give_back(mark, [run.run_id for run in earlier.reruns])
    if marks:
        server_calls.settle_earlier(earlier.ended)
        for run_id, unsent in unsent_folders(folder, earlier.ended, last_starts):
            server_calls.report_end(run_id, earlier.ended[run_id], [unsent])
