"""A signal that comes when the sweep is over: the command's exit code is the summary's, whatever comes then.

    before the sweep ─▶ the sweep (its supervisor hears signals) ─▶ SweepOver ─▶ printing ─▶ the process's end
    KeyboardInterrupt                                                a second SIGINT ends      nothing

The supervisor gives signals back when it has cleared up, and there is no moment between.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final, Self

from parallel_hpo.core.notices import Notice, Observer, SweepOver, shows_memory

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _Watching:
    """An observer that tells the other, and learns first that the sweep is over."""

    observer: Observer
    note_over: Callable[[SweepOver], None]
    shows_memory: bool

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        if isinstance(notice, SweepOver):
            self.note_over(notice)
        self.observer(notice)


class LateSignals:
    """Within the block, and after it once there was a sweep, no signal changes a sweep's exit code."""

    def __init__(self) -> None:
        self._exit_code: int | None = None
        self._heard = False

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) or signal.SIG_DFL for number in NUMBERS}
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        over = self._exit_code is not None and kind is None
        for number, before in self._before.items():
            # Ignored, for the interpreter takes its handlers away before it has ended.
            signal.signal(number, signal.SIG_IGN if over else before)

    def watching(self, observer: Observer) -> Observer:
        """Return an observer that tells the other, and learns from what it is told when the sweep is over."""

        return _Watching(observer, self._note_over, shows_memory(observer))

    def _note_over(self, notice: SweepOver) -> None:
        self._exit_code = notice.exit_code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._exit_code is None:
            before = self._before[signal.Signals(number)]
            signal.signal(number, before)
            signal.raise_signal(number)
        elif self._heard:
            os._exit(self._exit_code)  # whoever reads what is printed has no hurry
        self._heard = True
