"""A sweep server that meters its write transactions: metered.py FILE OPTION…, with the server's options.

FILE then contains two numbers: the transactions so far, and the processor time in them.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

from sqlalchemy import Connection

from parallel_hpo.server import __main__ as server
from parallel_hpo.server.store.database import Database

NUMBERS: Final = struct.Struct("2d")


@dataclass(frozen=True)
class Meter:
    """The write transactions of a server so far."""

    writes: float
    core_s: float
    """Processor time of the server within them, from the lock to the commit, in seconds."""


def read(file: Path) -> Meter:
    """Return a running server's meter."""
    return Meter(*NUMBERS.unpack(file.read_bytes()))


def main(file: Path) -> int:
    """Run a server that keeps its meter in a file."""
    file.write_bytes(NUMBERS.pack(0, 0))
    original = Database.write
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), NUMBERS.size) as memory:

        @contextmanager
        def write(database: Database) -> Iterator[Connection]:
            with original(database) as transaction:
                began_s = time.thread_time()
                yield transaction
            took_s = time.thread_time() - began_s
            writes, core_s = NUMBERS.unpack(memory)
            memory[:] = NUMBERS.pack(writes + 1, core_s + took_s)

        with patch.object(Database, "write", write):
            return server.main()


if __name__ == "__main__":
    _, place, *sys.argv[1:] = sys.argv
    sys.exit(main(Path(place)))
