"""`Handle`, the result of `hpo.start(main)`: a sweep that runs in a thread of its own.

    start ──▶ Handle ── result() ──▶ waits for a Future; an interrupt of this wait doesn't stop the sweep
                └─ thread: the supervisor; no signal reaches it, only stop() and drain()

When the main thread ends, the sweep is stopped, and the interpreter waits for its end. The sweep is shown in
the notebook cell that started it, else on stderr.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from parallel_hpo.core.notices import Message, Notice, Observer, SweepOpened
from parallel_hpo.display import Terminal, Verbosity
from parallel_hpo.display.notebook import NotebookCell, find_publisher
from parallel_hpo.display.text import Varied

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult
    from parallel_hpo.analysis.table import BestRun, RunSummary

Performance = Callable[[Observer], "SweepResult"]
"""Performs a prepared sweep and sends its notices to an observer; called once."""


class Stoppable(Protocol):
    """The HPO of a handle, which stops its sweep."""

    def interrupt(self) -> None:
        """Stop like SIGINT."""

    def drain(self) -> None:
        """Let the running runs finish and start none."""


class Handle:
    """A running or finished sweep; all methods may be called from any thread."""

    def __init__(self, sweep: Stoppable) -> None:
        """Created only by `HPO.start`."""
        self._sweep = sweep
        self._future: Future[SweepResult] = Future()
        self._begun: Future[None] = Future()
        self._opened: SweepOpened | None = None
        self._display: Display | None = None

    def done(self) -> bool:
        """Return whether the sweep has ended, so that the next one may start."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> SweepResult:
        """Wait for the sweep's end, at most `timeout` seconds, and return its result.

        Raises TimeoutError, and the errors of `optimize`. No signal ends a started sweep: after a
        KeyboardInterrupt of this wait it continues.
        """
        try:
            return self._future.result(timeout)
        except TimeoutError:
            if self._future.done():
                raise  # the sweep's own
            raise TimeoutError(f"the sweep still runs after {timeout:g} s, and continues") from None

    def stop(self) -> None:
        """Stop like Ctrl-C in `optimize`: `main` gets KeyboardInterrupt; a second call kills at once."""
        self._if_running(self._sweep.interrupt)

    def drain(self) -> None:
        """Let the running runs finish and start none."""
        self._if_running(self._sweep.drain)

    @property
    def best(self) -> BestRun | None:
        """The best finished run so far; None without one."""
        result = self._so_far()
        return None if result is None else result.best

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """The runs so far, in the order of their start; the outcome of a running one is `open`."""
        result = self._so_far()
        return () if result is None else result.runs

    def __repr__(self) -> str:
        """Return the sweep's id and whether it runs; its notebook cell shows the rest."""
        sweep = self._opened.path.sweep_id if self._opened else "that is starting"
        return f"<Handle of sweep {sweep}, {'ended' if self.done() else 'running'}>"

    def _repr_html_(self) -> str | None:
        """Return the sweep as HTML for other cells of a notebook than the one that started it."""
        if isinstance(self._display, NotebookCell):
            return self._display.html()
        result = self._so_far()
        return None if result is None else result._repr_html_()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None in a worker, which can't control a sweep."""
        return type(None), ()

    def _so_far(self) -> SweepResult | None:
        if self._future.done() and self._future.exception() is None:
            return self._future.result()
        if self._opened is None:
            return None
        from parallel_hpo.analysis.result import load_folder

        return load_folder(Path(self._opened.folder))

    def _if_running(self, call: Callable[[], None]) -> None:
        if not self.done():  # later calls would stop the HPO's next sweep
            call()

    def _perform(self, performance: Performance, display: Display, go_on: str) -> None:
        """Perform the sweep in its own thread; set the future to its result or error."""
        self._display = display

        def observe(notice: Notice) -> None:
            if isinstance(notice, SweepOpened):
                self._opened = notice
            display(notice)
            _set_done(self._begun)

        try:
            with display:
                try:
                    result = performance(observe)
                except BaseException as error:
                    display(Message(f"the sweep ended with an error: {error}", warning=True))
                    raise
                display.conclude(result, go_on=go_on.format(result.sweep_id))
        except BaseException as error:  # noqa: BLE001 - result() raises it
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        finally:
            _set_done(self._begun)


def start_in_thread(sweep: Stoppable, performance: Performance, display: Display, *, go_on: str) -> Handle:
    """Start a performance in a thread; return once `main` is pickled, so that the caller may change it.

    Raises errors from before the first notice, such as TargetError.
    """
    # joblib imports this late, which fails once the interpreter's shutdown has begun.
    import_module("concurrent.futures.process")
    handle = Handle(sweep)
    threading.Thread(
        target=handle._perform,
        args=(performance, display, go_on),
        name="parallel_hpo sweep",
        daemon=False,  # the interpreter waits for its end; _AT_EXIT stops the sweep
    ).start()
    _AT_EXIT.watch(handle)
    try:
        handle._begun.result()  # the first notice comes after the pickling
    except BaseException:
        handle.stop()
        raise
    if handle.done():
        handle.result()
    return handle


def finished_handle(sweep: Stoppable, result: SweepResult) -> Handle:
    """Return the handle of a sweep that has ended."""
    handle = Handle(sweep)
    handle._future.set_result(result)
    return handle


class _AtExit:
    """Stops the sweep of the latest handle when the main thread ends; one thread waits for that."""

    def __init__(self) -> None:
        self._handle: Handle | None = None
        self._waits = False

    def watch(self, handle: Handle) -> None:
        """Stop this handle's sweep at exit."""
        self._handle = handle
        if not self._waits:
            self._waits = True
            threading.Thread(target=self._wait, name="parallel_hpo at exit", daemon=True).start()

    def _wait(self) -> None:
        threading.main_thread().join()
        if self._handle is not None:
            self._handle.stop()


_AT_EXIT: Final = _AtExit()


def _set_done(begun: Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)


class Display(AbstractContextManager["Display"], Protocol):
    """Shows notices and the result, without blocking its caller."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Take the result, which is shown last."""


def open_display(varied: Varied) -> Display:
    """Return the display of a started sweep; at an interactive prompt on the terminal, a quiet one."""
    publish = find_publisher()
    if publish is not None:
        return NotebookCell(publish, varied=varied)
    verbosity = Verbosity.QUIET if hasattr(sys, "ps1") else Verbosity.NORMAL
    return Terminal(sys.stderr, verbosity=verbosity, varied=varied)
