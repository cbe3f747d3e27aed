from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Slot
from parallel_hpo.processes.output import LINE_CAP_BYTES, LineCutter, Log, OutputPump, log_path
from tests.process_pool.pooling import open_descriptors

STREAMS = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"50%", "π".encode()])).map(b"".join)


def cut(*chunks: bytes) -> list[str]:
    cutter = LineCutter()
    lines = [line for chunk in chunks for line in cutter.feed(chunk)]
    return lines + cutter.end()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({min(place, len(data)) for place in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(STREAMS, st.lists(st.integers(0, 60)))
def test_lines_do_not_depend_on_how_the_stream_is_chunked(data: bytes, cuts: list[int]) -> None:
    assert cut(*pieces(data, cuts)) == cut(data)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))))
def test_complete_lines_are_returned_unchanged(lines: list[str]) -> None:
    assert cut("".join(line + "\n" for line in lines).encode()) == lines


def test_a_line_is_returned_at_its_end_or_the_end_of_the_stream() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"half a li") == []
    assert cutter.feed(b"ne\nand") == ["half a line"]
    assert cutter.end() == ["and"]
    assert cut() == []


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b" 10%\r 50%\r100%\n", ["100%"]),
        (b"100%\r\n", ["100%"]),
        (b"100%\r\r\n", ["100%"]),
        (b" 10%\r 50%\r", [" 50%"]),
        (b"\r\n", [""]),
        (b"\ra\n", ["a"]),
        (b"a\xffb\n", ["a\N{REPLACEMENT CHARACTER}b"]),
    ],
)
def test_a_carriage_return_restarts_the_line_and_invalid_bytes_are_replaced(
    data: bytes, seen: list[str]
) -> None:
    assert cut(data) == seen


def test_a_long_line_is_split_and_an_endless_progress_bar_uses_no_memory() -> None:
    half = b"x" * (LINE_CAP_BYTES // 2 + 1)
    cutter = LineCutter()
    assert cutter.feed(half) == []
    assert cutter.feed(half) == [(2 * half).decode()]
    assert cutter.feed(b"end\n") == ["end"]
    assert len(cutter.feed(2 * half)) == 1
    assert cutter.feed(b"\n\nnext\n") == ["", "next"]  # the end of a line in pieces is no line
    for _ in range(3):
        assert cutter.feed(b"\r" + half[:-1]) == []
    assert cutter.end() == [half[:-1].decode()]


def write_log(path: Path, *data: bytes, cap_bytes: int = 1000) -> bytes:
    """Write parts to a log; return what its file holds then."""
    log = Log(path, cap_bytes)
    for part in data:
        log.write(part)
    log.close()
    return path.read_bytes()


def test_a_log_is_continued_after_a_restart_and_ends_at_its_cap_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "worker-0" / "output.log"
    assert write_log(path, b"0123456789", cap_bytes=15) == b"0123456789"
    full = write_log(path, b"abcdefghij", b"more", cap_bytes=15)
    assert full == b"0123456789abcde\n[parallel_hpo: this log has reached its cap; the rest is not kept]\n"
    assert write_log(path, b"more", cap_bytes=15) == full


class Pumped(OutputPump):
    """A pump over real pipes, and the lines that it reported."""

    def __init__(self, folder: Path) -> None:
        self.lines: dict[int, list[str]] = defaultdict(list)
        self.writers: list[int] = []
        super().__init__(folder, lambda slot, line: self.lines[slot].append(line))

    def connect(self, slot: int) -> Callable[[bytes], int]:
        """Return a writer to a new pipe of that slot."""
        reader, writer = os.pipe()
        self.writers.append(writer)
        self.add(reader, Slot(slot))
        return lambda data: os.write(writer, data)

    def finish(self) -> None:
        """Close all writers and wait until the pump has reported everything."""
        while self.writers:
            os.close(self.writers.pop())
        self.close()


@pytest.fixture
def pumped(tmp_path: Path) -> Iterator[Pumped]:
    pumped = Pumped(tmp_path)
    pumped.start()
    yield pumped
    if pumped.is_alive():
        pumped.finish()


def test_each_slots_lines_are_reported_whole_and_in_order_and_its_pipe_is_closed(pumped: Pumped) -> None:
    before = open_descriptors()
    first, second = pumped.connect(0), pumped.connect(1)
    for write, data in ((first, b"a1\na"), (second, b"b1\n"), (first, b"2\n"), (second, b"b2\nb3\n")):
        write(data)
    pumped.finish()
    assert pumped.lines[0] == ["a1", "a2"]
    assert pumped.lines[1] == ["b1", "b2", "b3"]
    assert open_descriptors() <= before


def test_the_log_contains_every_byte_unchanged(pumped: Pumped, tmp_path: Path) -> None:
    data = b" 10%\r 50%\r100%\n\x1b[31mred\x1b[0m \xff\n\nno end"
    pumped.connect(3)(data)
    pumped.finish()
    assert log_path(tmp_path, Slot(3)).read_bytes() == data
    assert pumped.lines[3] == ["100%", "\x1b[31mred\x1b[0m \N{REPLACEMENT CHARACTER}", "", "no end"]


def test_a_tail_contains_the_last_lines_of_its_run(pumped: Pumped) -> None:
    write = pumped.connect(0)
    pumped.connect(1)(b"another's\n")
    write(b"".join(b"line %d\n" % number for number in range(300)) + b"half")
    assert pumped.tail(Slot(0)).result(10) == [*(f"line {number}" for number in range(101, 300)), "half"]
    write(b" a line\n")
    assert pumped.tail(Slot(0)).result(10)[-1] == "half a line"
    pumped.begin_tail(Slot(0))
    write(b"second\n")
    assert pumped.tail(Slot(0)).result(10) == ["second"]


def test_a_log_that_cannot_be_opened_is_retried_without_an_error(tmp_path: Path) -> None:
    """As on a full disk or without descriptors: here a file is in the place of the log's folder."""
    in_the_way = tmp_path / "worker-0"
    in_the_way.touch()
    log = Log(in_the_way / "output.log")
    log.write(b"lost")
    in_the_way.unlink()
    log.write(b"kept")
    log.close()
    assert (in_the_way / "output.log").read_bytes() == b"kept"
