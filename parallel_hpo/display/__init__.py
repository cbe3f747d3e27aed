"""Shows a sweep to the people who watch it; knows notices and results, and decides nothing."""

from __future__ import annotations

from parallel_hpo.display.terminal import Terminal
from parallel_hpo.display.text import Verbosity

__all__ = ["Terminal", "Verbosity"]
