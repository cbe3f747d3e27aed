"""Asks the sweep server in a thread of its own, so that a server that is away holds up no decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from parallel_hpo.backend.base import Backend
from parallel_hpo.errors import BackendError
from parallel_hpo.supervisor.events import SweepSeen
from parallel_hpo.words import Message, Observer, RunId, SweepPath


class Courier:
    """One sweep's line to its server; requests are made one after another, in the order of their asking."""

    def __init__(
        self,
        backend: Backend,
        path: SweepPath,
        *,
        observer: Observer,
        post: Callable[[SweepSeen], None],
    ) -> None:
        """`post` is given the answers, in the courier's thread."""
        self._backend = backend
        self._path = path
        self._observer = observer
        self._post = post
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parallel_hpo-courier")

    def give_back(self, label: str, keep: Sequence[RunId]) -> None:
        """Let others have what the dead worker `label` was issued and never started."""
        self._submit(lambda: self._backend.give_back(self._path, label, keep))

    def end_run(self, run_id: RunId, state: str) -> None:
        """Tell the server of a run's end that its process can't tell."""
        self._submit(lambda: self._backend.end_run(self._path, run_id, state))

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

    def _submit(self, request: Callable[[], None]) -> None:
        self._thread.submit(request).add_done_callback(self._warn)

    def _warn(self, done: Future[None]) -> None:
        error = done.exception()
        if isinstance(error, BackendError):
            self._observer(Message(f"the sweep server was not told: {error}", warning=True))
        elif error is not None:
            raise error
