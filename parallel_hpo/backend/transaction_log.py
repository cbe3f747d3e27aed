"""The frame of the client's own file of a run, `run-<id>.wandb`: records of bytes, one after another.

wandb client: LevelDB's log format with a header of its own and zlib's checksum; `wandb sync` reads it, also
what older clients have written.

    header │ block of 32 KiB: [ checksum │ length │ kind │ a record or a part of one ] … │ block …
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO, Final

HEADER: Final = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_BLOCK_BYTES: Final = 32768
_FRAME: Final = struct.Struct("<IHB")


class _Kind(IntEnum):
    FULL = 1
    FIRST = 2
    MIDDLE = 3
    LAST = 4


class TransactionLog:
    """Writes records to a file that is empty."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = file.write(HEADER)

    def append(self, record: bytes) -> None:
        """Write one more record."""
        is_first = True
        for piece, is_last in self._pieces(record):
            kind = _KINDS[is_first, is_last]
            checksum = zlib.crc32(piece, zlib.crc32(bytes([kind])))
            self._write(_FRAME.pack(checksum, len(piece), kind) + piece)
            is_first = False

    def _pieces(self, record: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield what of a record goes into each block, and whether it is the last of it."""
        left, is_last = record, False
        while not is_last:
            room = self._room()
            piece, left = left[:room], left[room:]
            is_last = not left
            yield piece, is_last

    def _room(self) -> int:
        """Return how much the next piece may have; what is left of a block and holds no frame is filled."""
        free = _BLOCK_BYTES - self._at % _BLOCK_BYTES
        if free < _FRAME.size:
            self._write(bytes(free))
            free = _BLOCK_BYTES
        return free - _FRAME.size

    def _write(self, data: bytes) -> None:
        self._at += self._file.write(data)


_KINDS: Final = {
    (True, True): _Kind.FULL,
    (True, False): _Kind.FIRST,
    (False, False): _Kind.MIDDLE,
    (False, True): _Kind.LAST,
}
