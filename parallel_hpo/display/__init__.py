"""Shows a sweep's notices and result in a terminal or a notebook."""

from __future__ import annotations

from parallel_hpo.display.terminal import Terminal
from parallel_hpo.display.text import Verbosity

__all__ = ["Terminal", "Verbosity"]
