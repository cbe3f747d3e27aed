"""Waits until SQLite's log is on the disk, which its transactions themselves don't wait for.

    transaction ─▶ appended to the log ─▶ survives our death ─▶ flush ─▶ survives a power cut

One wait serves all who ask while another one is under way, and no transaction is held up
by it. What stands in the log earlier is on the disk with what comes after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock


def flush_path(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Disk:
    """The disk under a write-ahead log."""

    def __init__(self, log: Path, *, flush_path: Callable[[Path], None] = flush_path) -> None:
        self._log = log
        self._flush_path = flush_path
        self._folder_flushed = False
        self._asked = self._served = 0
        self._asking = Lock()
        self._flushing = Lock()

    def flush(self) -> None:
        """Return once all that was in the log before this call is on the disk; OSError where it can't be."""
        with self._asking:
            self._asked += 1
            mine = self._asked
        with self._flushing:
            if self._served >= mine:
                return  # by the call that was waited for
            served = self._asked
            self._flush()
            self._served = served

    def _flush(self) -> None:
        try:
            # SQLite keeps its locks on other files: to close this one takes none of them away.
            self._flush_path(self._log)
        except FileNotFoundError:
            return  # it went into the database itself, and SQLite flushed that
        if not self._folder_flushed:  # the log's own name
            self._flush_path(self._log.parent)
            self._folder_flushed = True
