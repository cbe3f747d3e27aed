"""Lines and live rows on a console, and in a terminal emulator."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import MemoryUsed, Message, Notice, RunBegan, RunProgressed, WorkerChanged
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.display.rows import Workers, WorkerSeen, advance_workers, rows_of
from parallel_hpo.display.screen import OpenConsole, Screen, TracebackFilter
from parallel_hpo.display.text import RunCounts, Verbosity
from tests.display.conftest import HOSTILE, OPENED, SEEN, began, output, over

ZERO, ONE = Slot(0), Slot(1)
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in main',
    "    raise ValueError(1)",
    "ValueError: 1",
]
AGAIN = "ValueError: 1  (the same traceback for the {} time)"


class Shown:
    """A screen of 40 columns, and its output since the last read."""

    def __init__(self, *, live: bool = True, is_terminal: bool | None = None, width: int = 40) -> None:
        is_terminal = live if is_terminal is None else is_terminal
        self._file = io.StringIO()
        self.console = OpenConsole(
            file=self._file,
            force_terminal=is_terminal,
            color_system="standard" if is_terminal else None,
            width=width,
            height=10,
            _environ={},
        )
        self.screen = Screen(
            self.console, live=live, verbosity=Verbosity.NORMAL, varied=None, clock=lambda: 10.0
        )

    def written(self, *notices: Notice, closes: bool = False) -> str:
        """Show notices; return what is written for them."""
        for notice in notices:
            self.screen.show(notice)
        if closes:
            self.screen.close()
        else:
            self.screen.refresh()
        text = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return text


class Emulated(Shown):
    """A sweep of two workers with a run each, on a terminal of 80 columns."""

    def __init__(self) -> None:
        super().__init__(width=80)
        self.terminal = pyte.Screen(80, 10)
        self.terminal.set_mode(pyte.modes.LNM)  # as a terminal's line discipline does
        self._stream = pyte.Stream(self.terminal)
        self.rows(OPENED, began(0, 0), began(1, 1))

    def resize(self, columns: int, lines: int) -> None:
        self.terminal.resize(lines, columns)
        self.console.width, self.console.height = columns, lines

    def rows(self, *notices: Notice, closes: bool = False) -> list[str]:
        self._stream.feed(self.written(*notices, closes=closes))
        return [line.rstrip() for line in self.terminal.display if line.strip()]


def test_lines_scroll_above_the_live_rows_and_no_row_remains_at_the_end() -> None:
    shown = Emulated()
    *lines, head, first, second = shown.rows(*(Message(f"line {number}") for number in range(20)))
    assert lines[-6:] == [f"line {number}" for number in range(14, 20)]
    assert head == "━━━━━━━──────── 0/4 runs · 2 running · 0 failed"
    assert (first.split()[:2], second.split()[:2]) == (["w0", "r0"], ["w1", "r1"])
    assert shown.rows(closes=True)[-1] == "line 19"
    assert not shown.terminal.cursor.hidden


def test_a_resize_leaves_one_block_of_rows_below_the_last_lines() -> None:
    shown = Emulated()
    shown.rows(*(Message(f"line {number} " + "x" * 30) for number in range(30)))
    for columns, lines in ((20, 20), (60, 8), (100, 30), (40, 20)):
        shown.resize(columns, lines)
        *above, head, first, second = shown.rows()
        assert (first.split()[:2], second.split()[:2]) == (["w0", "r0"], ["w1", "r1"])
        assert "".join(above).endswith("line 29 " + "x" * 30)
        assert sum("0/4 runs" in row for row in (*above, head)) == 1


def test_rows_are_truncated_to_the_terminals_width() -> None:
    text = Shown().written(OPENED, began(), over(value=0.5), began())
    head, best, row = Text.from_ansi(text).plain.splitlines()[-3:]
    assert (head[-1], len(head), row) == ("…", 39, "w0 r1 0.0 s")
    assert best == "best: run r1  loss=0.5  x=1"


def test_the_sweeps_url_is_a_link_only_on_a_terminal() -> None:
    assert re.search(
        r"\x1b]8;[^;]*;http://x/s1\x1b\\http://x/s1\x1b]8;;\x1b\\", Shown(width=80).written(OPENED)
    )
    forced = Shown(live=False, is_terminal=True).written(OPENED)  # FORCE_COLOR in a file
    assert "http://x/s1" in forced
    assert "\x1b]8;" not in forced


def test_a_long_line_is_not_wrapped() -> None:
    assert Shown(live=False).written(output("x" * 500)) == f"[w0] {'x' * 500}\n"


def test_worker_output_may_use_colors_but_not_move_the_cursor() -> None:
    text = Shown().written(output("\x1b[31mred\x1b[0m 50%\r\x1b[31m100%\x1b[0m\x1b[2J\x1b[10A"))
    assert "\x1b[31m100%\x1b[0m" in text
    assert not any(code in text for code in ("50%", "\x1b[2J", "\x1b[10A"))


@pytest.mark.parametrize("live", [True, False])
def test_control_characters_of_users_and_runs_are_visible(live: bool) -> None:
    text = Shown(live=live).written(
        replace(OPENED, folder=HOSTILE),
        replace(began(), parameters={"lr": HOSTILE}),
        output(f"\x1b[31mred\x1b[0m {HOSTILE}\x1b[K"),
        over(outcome=Outcome.FAILED, reason=HOSTILE),
        Message(HOSTILE, warning=True),
    )
    assert text.count(SEEN) == 5
    assert "\x1b]0" not in text
    assert not {"\x07", "\x9b"} & set(text)


def fed(filter_: TracebackFilter, slot: Slot, lines: list[str]) -> list[str]:
    return [shown for line in lines for shown in filter_.feed(slot, line)]


def test_a_traceback_is_shown_once_and_repetitions_are_counted() -> None:
    filter_ = TracebackFilter()
    assert fed(filter_, ZERO, ["epoch 1", *TRACEBACK]) == ["epoch 1", *TRACEBACK]
    assert fed(filter_, ONE, TRACEBACK) == [AGAIN.format("2nd")]
    assert filter_.feed(ZERO, "  indented") == ["  indented"]
    last = [fed(filter_, ZERO, TRACEBACK)[-1] for _ in range(21)]
    for number, ordinal in ((3, "3rd"), (4, "4th"), (11, "11th"), (21, "21st"), (22, "22nd"), (23, "23rd")):
        assert last[number - 3] == AGAIN.format(ordinal)
    other = [*TRACEBACK[:-1], "ValueError: 2"]
    assert fed(filter_, ZERO, other) == other


def test_tracebacks_of_two_workers_do_not_mix() -> None:
    filter_ = TracebackFilter()
    for line in TRACEBACK[:-1]:
        assert filter_.feed(ZERO, line) == []
        assert filter_.feed(ONE, line) == []
    assert filter_.feed(ZERO, TRACEBACK[-1]) == TRACEBACK
    assert filter_.feed(ONE, TRACEBACK[-1]) == [AGAIN.format("2nd")]


def test_an_incomplete_traceback_is_shown_at_the_runs_end() -> None:
    filter_ = TracebackFilter()
    fed(filter_, ZERO, TRACEBACK[:2])
    assert filter_.feed(ZERO, TRACEBACK[0]) == TRACEBACK[:2]
    shown = Shown(live=False)
    shown.written(began(), output(TRACEBACK[0]))
    assert f"[w0] {TRACEBACK[0]}\n" in shown.written(over(outcome=Outcome.CRASHED))


def test_a_failure_printed_by_client_and_worker_is_shown_once() -> None:
    filter_ = TracebackFilter()
    further = [TRACEBACK[0], '  File "target.py", line 9, in call', "    main()", *TRACEBACK[1:]]
    ended = "wandb: run ended"
    assert fed(filter_, ZERO, [*TRACEBACK, ended, *further]) == [*TRACEBACK, ended]
    assert fed(filter_, ZERO, [*TRACEBACK, *further]) == [AGAIN.format("2nd")]
    other = [*further[:-1], "ValueError: 2"]
    assert fed(filter_, ZERO, other) == other


RUN = RunId("r1")
HALF_WAY = Progress(RUN, 19, 20, 40, "loss", 0.12345678)
W0 = Slot(0)
UP = (WorkerChanged(W0, SlotState.STARTING), WorkerChanged(W0, SlotState.RUNNING))
BEGAN = RunBegan(W0, RUN, 1, {}, "3")


def busy(progress: Progress | None = HALF_WAY, device: str = "0") -> WorkerSeen:
    return WorkerSeen(SlotState.RUNNING, device, RUN, 10.0, progress, 1229.0)


def shown(*workers: WorkerSeen, width: int = 100, most: int = 10) -> list[str]:
    seen = {Slot(slot): worker for slot, worker in enumerate(workers)}
    return [line.plain for line in rows_of(seen, 22.34, RunCounts().name_of, width=width, most=most)]


@pytest.mark.parametrize(
    ("worker", "width", "row"),
    [
        (busy(), 100, "w0  device 0  r1  20/40  50%  loss=0.1235  12.3 s  1.2 GB"),
        (busy(), 33, "w0 r1 20/40 loss=0.1235 12.3 s"),
        (busy(Progress(RUN, 19, None, None, "", None)), 100, "w0  device 0  r1  step 19  12.3 s  1.2 GB"),
        (busy(None, device=""), 100, "w0  r1  12.3 s  1.2 GB"),
        (WorkerSeen(SlotState.STARTING), 100, "w0  starting"),
        (WorkerSeen(SlotState.RUNNING), 100, "w0  waits"),
        (WorkerSeen(SlotState.BACKOFF), 100, "w0  restarts"),
    ],
)
def test_a_row_shows_the_known_state_of_its_worker(worker: WorkerSeen, width: int, row: str) -> None:
    assert shown(worker, width=width) == [row]


def test_columns_are_aligned() -> None:
    first, second = shown(busy(), busy(Progress(RUN, 1, 2, 400, "accuracy", 0.5)))
    assert first.index("/40") == second.index("/400") + 1  # numbers end below each other
    assert first.index("GB") == second.index("GB")


def test_excess_workers_are_counted_and_busy_ones_come_first() -> None:
    rows = shown(*[WorkerSeen()] * 5, busy(), *[WorkerSeen()] * 4, most=3)
    assert [row.split()[0] for row in rows] == ["w0", "w5", "…"]
    assert rows[-1] == "… and 8 more workers"


@given(
    st.lists(st.sampled_from([busy(), busy(None), WorkerSeen(), busy(device="GPU-" + "a" * 36)]), max_size=9),
    st.integers(1, 120),
    st.integers(0, 12),
)
def test_rows_fit_the_terminal(workers: list[WorkerSeen], width: int, most: int) -> None:
    rows = shown(*workers, width=width, most=most)
    assert len(rows) <= most
    assert all(len(row) <= width for row in rows)


def after(*notices: Notice) -> Workers:
    workers: Workers = {}
    for second, notice in enumerate((*UP, *notices)):
        workers = advance_workers(workers, notice, float(second))
    return workers


def progressed(run_id: str) -> RunProgressed:
    return RunProgressed(W0, Progress(RunId(run_id), 7, None, None, "loss", 0.5))


@pytest.mark.parametrize("last", [SlotState.EXITED, SlotState.FATAL])
def test_a_worker_has_a_row_from_its_start_to_its_end(last: SlotState) -> None:
    gone = WorkerChanged(W0, last)
    assert after() == {W0: WorkerSeen(SlotState.RUNNING)}
    assert after(gone) == {}
    assert after(gone, MemoryUsed(W0, 1.0), progressed("r1"), over()) == {}  # late notices


def test_a_row_shows_a_run_from_its_start_to_its_end() -> None:
    (seen,) = after(BEGAN, progressed("r1")).values()
    assert seen == WorkerSeen(SlotState.RUNNING, "3", RUN, 2.0, progressed("r1").progress)
    (seen,) = after(BEGAN, progressed("r1"), over()).values()
    assert (seen.run_id, seen.progress) == (None, None)


def test_late_progress_of_an_earlier_run_is_ignored() -> None:
    (seen,) = after(BEGAN, over(), RunBegan(W0, RunId("r2"), 1), progressed("r1")).values()
    assert seen.progress is None


def test_memory_is_shown_only_for_the_current_process() -> None:
    (seen,) = after(MemoryUsed(W0, 100.0)).values()
    assert seen.memory_mb == 100.0
    (seen,) = after(MemoryUsed(W0, 100.0), WorkerChanged(W0, SlotState.STARTING)).values()
    assert seen.memory_mb is None
