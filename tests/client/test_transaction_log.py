from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.client.run_file import HEADER, TransactionLog

BLOCK = 32768
FRAME = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = range(1, 5)


def written(records: list[bytes]) -> bytes:
    file = io.BytesIO()
    log = TransactionLog(file)
    for record in records:
        log.append(record)
    return file.getvalue()


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read records as documented by LevelDB, and check them."""
    at = len(HEADER)
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < FRAME.size:
            assert data[at : at + left] == bytes(left)
            at += left
            continue
        checksum, length, kind = FRAME.unpack_from(data, at)
        assert FRAME.size + length <= left, "a piece is in one block"
        piece = data[at + FRAME.size : at + FRAME.size + length]
        assert checksum == zlib.crc32(bytes([kind]) + piece)
        yield kind, piece
        at += FRAME.size + length


def records_in(data: bytes) -> Iterator[bytes]:
    begun: bytes | None = None
    for kind, piece in pieces(data):
        assert (kind in (MIDDLE, LAST)) == (begun is not None)
        begun = (begun or b"") + piece
        if kind in (FULL, LAST):
            yield begun
            begun = None
    assert begun is None


SIZES = st.one_of(st.integers(1, 40), st.integers(BLOCK - 40, BLOCK + 40), st.integers(1, 3 * BLOCK))


@given(st.lists(SIZES, max_size=8))
def test_records_of_any_size_are_read_back_unchanged(sizes: list[int]) -> None:
    records = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    assert list(records_in(written(records))) == records


def test_records_are_split_at_the_end_of_a_block() -> None:
    for gap in range(FRAME.size + 2):
        first = bytes(BLOCK - len(HEADER) - FRAME.size - gap)
        assert list(records_in(written([first, b"next"]))) == [first, b"next"]


def test_the_files_header_matches_the_clients() -> None:
    assert written([]) == b":W&B\xe1\xbe\x00"
