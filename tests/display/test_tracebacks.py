from __future__ import annotations

from parallel_hpo.core.types import Slot
from parallel_hpo.display.screen import TracebackFilter

ZERO, ONE = Slot(0), Slot(1)
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in main',
    "    raise ValueError(1)",
    "ValueError: 1",
]


def fed(filter_: TracebackFilter, slot: Slot, lines: list[str]) -> list[str]:
    return [shown for line in lines for shown in filter_.feed(slot, line)]


def test_other_lines_are_shown_at_once() -> None:
    assert TracebackFilter().feed(ZERO, "epoch 1") == ["epoch 1"]


def test_a_traceback_is_shown_completely_the_first_time() -> None:
    assert fed(TracebackFilter(), ZERO, TRACEBACK) == TRACEBACK


def test_a_repeated_traceback_is_only_counted() -> None:
    filter_ = TracebackFilter()
    fed(filter_, ZERO, TRACEBACK)
    assert fed(filter_, ONE, TRACEBACK) == ["ValueError: 1  (the same traceback for the 2nd time)"]
    assert fed(filter_, ZERO, TRACEBACK) == ["ValueError: 1  (the same traceback for the 3rd time)"]


def test_ordinals_are_english() -> None:
    filter_ = TracebackFilter()
    last = [fed(filter_, ZERO, TRACEBACK)[-1] for _ in range(23)]
    assert [last[number - 1].split()[-2] for number in (4, 11, 12, 13, 21, 22, 23)] == [
        *("4th", "11th", "12th", "13th", "21st", "22nd", "23rd")
    ]


def test_another_traceback_is_shown_completely() -> None:
    filter_ = TracebackFilter()
    fed(filter_, ZERO, TRACEBACK)
    other = [*TRACEBACK[:-1], "ValueError: 2"]
    assert fed(filter_, ZERO, other) == other


def test_tracebacks_of_two_slots_do_not_mix() -> None:
    filter_ = TracebackFilter()
    for line in TRACEBACK[:-1]:
        assert filter_.feed(ZERO, line) == []
        assert filter_.feed(ONE, line) == []
    assert filter_.feed(ZERO, TRACEBACK[-1]) == TRACEBACK
    assert len(filter_.feed(ONE, TRACEBACK[-1])) == 1


def test_an_incomplete_traceback_is_shown_at_the_runs_end() -> None:
    filter_ = TracebackFilter()
    fed(filter_, ZERO, TRACEBACK[:2])
    assert filter_.feed(ZERO, TRACEBACK[0]) == TRACEBACK[:2]
    assert filter_.flush(ZERO) == TRACEBACK[:1]
    assert filter_.flush(ZERO) == []


def test_lines_after_a_traceback_are_shown_at_once() -> None:
    filter_ = TracebackFilter()
    fed(filter_, ZERO, TRACEBACK)
    assert filter_.feed(ZERO, "  indented") == ["  indented"]


def test_a_failure_printed_by_client_and_worker_is_shown_once() -> None:
    filter_ = TracebackFilter()
    further = [TRACEBACK[0], '  File "target.py", line 9, in call', "    main()", *TRACEBACK[1:]]
    ended = "wandb: run ended"
    assert fed(filter_, ZERO, [*TRACEBACK, ended, *further]) == [*TRACEBACK, ended]
    again = "ValueError: 1  (the same traceback for the 2nd time)"
    assert fed(filter_, ZERO, [*TRACEBACK, *further]) == [again]
    other = [*further[:-1], "ValueError: 2"]
    assert fed(filter_, ZERO, other) == other
