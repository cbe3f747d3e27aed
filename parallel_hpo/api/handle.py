"""`hpo.start(main)` returns one: a sweep that runs behind it, in a thread of its own.

    start ──▶ Handle ── result() ──▶ waits for a Future, which an interrupt of the waiting thread leaves be
                └─ thread: the supervisor; no signal reaches it, only stop() and drain()

When the main thread ends, by whatever, the sweep is stopped and its end is waited for. It shows itself in
its notebook's cell, else on stderr.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from parallel_hpo.core.notices import Notice
from parallel_hpo.display import Terminal, Verbosity
from parallel_hpo.display.notebook import NotebookCell, find_publisher
from parallel_hpo.display.text import Varied

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult
import threading
from collections.abc import Callable
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parallel_hpo.core.notices import Message, Observer, SweepOpened

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import BestRun, RunSummary, SweepResult

Performance = Callable[[Observer], "SweepResult"]
"""Performs a sweep that is ready to begin, and tells an observer of it; called once."""


class Stoppable(Protocol):
    """What the sweep of a handle is stopped by."""

    def interrupt(self) -> None:
        """Stop as SIGINT does."""

    def drain(self) -> None:
        """Let the running runs finish and start none."""


class Handle:
    """A sweep that runs, or ran; all methods may be called from any thread."""

    def __init__(self, sweep: Stoppable) -> None:
        """Made by `HPO.start` alone."""
        self._sweep = sweep
        self._future: Future[SweepResult] = Future()
        self._begun: Future[None] = Future()
        self._opened: SweepOpened | None = None

    def done(self) -> bool:
        """Return whether the sweep is over, and the next may be started."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> SweepResult:
        """Wait for the sweep's end, at most `timeout` seconds, and return what `optimize` would.

        Raises TimeoutError, and what `optimize` raises except for signals: none ends a started sweep.
        KeyboardInterrupt comes through, and the sweep goes on.
        """
        try:
            return self._future.result(timeout)
        except TimeoutError:
            if self._future.done():
                raise  # the sweep's own
            raise TimeoutError(f"the sweep still runs after {timeout:g} s; it goes on") from None

    def stop(self) -> None:
        """Stop as Ctrl-C stops `optimize`: `main` gets KeyboardInterrupt; a second time kills at once."""
        self._sweep_if_running(self._sweep.interrupt)

    def drain(self) -> None:
        """Let the running runs finish and start none."""
        self._sweep_if_running(self._sweep.drain)

    @property
    def best(self) -> BestRun | None:
        """The best finished run so far; None where there is none."""
        result = self._so_far()
        return None if result is None else result.best

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """The runs so far, in the order of their start; the outcome of one under way is `open`."""
        result = self._so_far()
        return () if result is None else result.runs

    def __repr__(self) -> str:
        """Say which sweep it is and whether it runs; not more, as its cell shows the rest."""
        sweep = self._opened.path.sweep_id if self._opened else "that is being opened"
        return f"<Handle of sweep {sweep}, {'over' if self.done() else 'running'}>"

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Arrive at a worker, where no sweep can be handled, as None."""
        return type(None), ()

    def _so_far(self) -> SweepResult | None:
        if self._future.done() and self._future.exception() is None:
            return self._future.result()
        if self._opened is None:
            return None
        from parallel_hpo.analysis.result import load_folder

        return load_folder(Path(self._opened.folder))

    def _sweep_if_running(self, ask: Callable[[], None]) -> None:
        if not self.done():  # the next sweep's would be stopped else
            ask()

    def _perform(self, performance: Performance, display: Display, go_on: str) -> None:
        """Perform the sweep, in its own thread; what ends it is the future's."""

        def observe(notice: Notice) -> None:
            if isinstance(notice, SweepOpened):
                self._opened = notice
            display(notice)
            _settle(self._begun)

        try:
            with display:
                try:
                    result = performance(observe)
                except BaseException as error:
                    display(Message(f"the sweep ended by an error: {error}", warning=True))
                    raise
                display.conclude(result, go_on=go_on.format(result.sweep_id))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        finally:
            _settle(self._begun)


def begin(sweep: Stoppable, performance: Performance, display: Display, *, go_on: str) -> Handle:
    """Start a performance in a thread; return once `main` is packed, so that it may change from then on.

    Raises what ends the performance before anything is told of it, such as TargetError.
    """
    # joblib, which is imported late, imports this, which can't be once the interpreter's end has begun.
    import_module("concurrent.futures.process")
    handle = Handle(sweep)
    threading.Thread(
        target=handle._perform,
        args=(performance, display, go_on),
        name="parallel_hpo sweep",
        daemon=False,  # the interpreter waits for its end, which _AT_EXIT asks for
    ).start()
    _AT_EXIT.stop(handle)
    try:
        handle._begun.result()  # the first notice comes after the packing
    except BaseException:
        handle.stop()
        raise
    if handle.done():
        handle.result()
    return handle


def over(sweep: Stoppable, result: SweepResult) -> Handle:
    """Return the handle of a sweep that is over."""
    handle = Handle(sweep)
    handle._future.set_result(result)
    return handle


class _AtExit:
    """Stops the running handle's sweep when the main thread ends; one thread waits for that."""

    def __init__(self) -> None:
        self._handle: Handle | None = None
        self._waits = False

    def stop(self, handle: Handle) -> None:
        """Have this handle's sweep stopped."""
        self._handle = handle
        if not self._waits:
            self._waits = True
            threading.Thread(target=self._wait, name="parallel_hpo at exit", daemon=True).start()

    def _wait(self) -> None:
        threading.main_thread().join()
        if self._handle is not None:
            self._handle.stop()


_AT_EXIT: Final = _AtExit()


def _settle(begun: Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)


class Display(AbstractContextManager["Display"], Protocol):
    """Shows notices and the result, and never makes its caller wait."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Take the result, to be shown last."""


def open_display(varied: Varied) -> Display:
    """Return the display; where somebody types at a prompt on the same terminal, one that says little."""
    publish = find_publisher()
    if publish is not None:
        return NotebookCell(publish, varied=varied)
    at_a_prompt = hasattr(sys, "ps1")
    return Terminal(sys.stderr, verbosity=Verbosity.QUIET if at_a_prompt else Verbosity.NORMAL, varied=varied)
