"""Shows a sweep in a notebook's cell; knows notices and results, and decides nothing."""

from __future__ import annotations

from parallel_hpo.notebook.cell import Cell, find_publisher

__all__ = ["Cell", "find_publisher"]
