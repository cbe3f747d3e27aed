"""Shows a sweep to the people who watch it; knows notices and results, and decides nothing."""

from __future__ import annotations

from parallel_hpo.ui.terminal import Terminal
from parallel_hpo.ui.wording import Verbosity

__all__ = ["Terminal", "Verbosity"]
