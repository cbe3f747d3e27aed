"""The observer that shows a sweep in the notebook's cell that started it, live.

    any thread ── notice ──▶ queue ──▶ one writer thread ── display_id ──▶ the cell

An update by `display_id` lands in its cell whichever cell runs; whatever a thread prints would not.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from parallel_hpo.notebook.picture import Picture, as_html, as_text, draw
from parallel_hpo.notices import Notice, OutputLine
from parallel_hpo.ui.summary import describe_result, is_left_over
from parallel_hpo.ui.wording import Varied
from parallel_hpo.ui.writer import Writer

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult

REDRAW_S: Final = 0.5
"""At most so often is the cell drawn anew: a person sees no more."""
TICK_S: Final = 5.0
"""So often where nothing happens, for the time that is left."""

Publish = Callable[..., object]
"""IPython's `publish_display_data`."""
_Step = Callable[[Picture], Picture]


def find_publisher() -> Publish | None:
    """Return what shows something in this notebook; None where this process is no notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import publish_display_data

    return publish_display_data


class Cell(Writer[_Step]):
    """Shows notices and the result; a context manager, callable from any thread."""

    shows_memory: Final = False

    def __init__(
        self, publish: Publish, *, varied: Varied = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show by `publish`, from now on; `varied` names the parameters worth showing; `clock` in seconds."""
        super().__init__("parallel_hpo cell")
        self._publish = publish
        self._varied = varied
        self._clock = clock
        self._display = {"display_id": f"parallel_hpo-{uuid4().hex}"}
        self._picture = Picture()
        self._show(update=False)  # in the thread that runs the cell: this makes its place there

    def __call__(self, notice: Notice) -> None:
        """Take a notice, at once; what runs print is in their logs alone."""
        if not isinstance(notice, OutputLine):
            now = self._clock()
            self._steps.put(lambda picture: draw(picture, notice, now))

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Take the result, to be shown last; `go_on` is what goes on with a sweep that is not complete."""

        def end(picture: Picture) -> Picture:
            lines = [line.plain for line in describe_result(result, picture.tally, self._varied)]
            if go_on and is_left_over(result):
                lines.append(f"go on with it: {go_on}")
            return replace(picture, end=tuple(lines))

        self._steps.put(end)

    def _write(self) -> None:
        """Perform the steps until the end is asked for, and show what they come to."""
        drawn_at, is_new = self._clock(), False
        while True:
            due_in_s = max(0.0, drawn_at + (REDRAW_S if is_new else TICK_S) - self._clock())
            try:
                step = self._steps.get(timeout=due_in_s)
            except queue.Empty:
                self._show(update=True)
                drawn_at, is_new = self._clock(), False
                continue
            if step is None:
                break
            self._picture, is_new = step(self._picture), True
        self._show(update=True)

    def _show(self, *, update: bool) -> None:
        now = self._clock()
        data: dict[str, Any] = {
            "text/plain": as_text(self._picture, self._varied, now),
            "text/html": as_html(self._picture, self._varied, now),
        }
        with suppress(Exception):  # a notebook that has gone must not end a sweep
            self._publish(data, transient=self._display, update=update)
