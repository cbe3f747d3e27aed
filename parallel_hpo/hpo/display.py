"""Where a sweep that `start` has begun shows itself: in its notebook's cell, else on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from parallel_hpo.notebook import Cell, find_publisher
from parallel_hpo.notices import Notice
from parallel_hpo.ui import Terminal, Verbosity
from parallel_hpo.ui.wording import Varied

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult


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
        return Cell(publish, varied=varied)
    at_a_prompt = hasattr(sys, "ps1")
    return Terminal(sys.stderr, verbosity=Verbosity.QUIET if at_a_prompt else Verbosity.NORMAL, varied=varied)
