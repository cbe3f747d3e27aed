from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import MemoryUsed, Notice, RunBegan, RunOver, RunProgressed, WorkerChanged
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.display.rows import Workers, WorkerSeen, advance_workers, rows_of
from parallel_hpo.display.text import RunCounts

RUN = RunId("ab12cd34")
HALF_WAY = Progress(RUN, 19, 20, 40, "loss", 0.12345678)

W0 = Slot(0)
UP = (WorkerChanged(W0, SlotState.STARTING), WorkerChanged(W0, SlotState.RUNNING))
BEGAN = RunBegan(W0, RunId("r1"), 1, {}, "3")
OVER = RunOver(W0, RunId("r1"), 1, Outcome.FINISHED, "", 0.5, 3.0)


def busy(progress: Progress | None = HALF_WAY, device: str = "0") -> WorkerSeen:
    return WorkerSeen(SlotState.RUNNING, device, RUN, 10.0, progress, 1229.0)


def shown(*workers: WorkerSeen, width: int = 100, most: int = 10) -> list[str]:
    seen = {Slot(slot): worker for slot, worker in enumerate(workers)}
    return [line.plain for line in rows_of(seen, 22.34, RunCounts().name_of, width=width, most=most)]


def test_a_row_has_device_run_step_metric_seconds_and_memory() -> None:
    (row,) = shown(busy())
    assert row == "w0  device 0  ab12cd34  20/40  50%  loss=0.1235  12.3 s  1.2 GB"


def test_only_the_step_is_shown_without_a_total() -> None:
    (row,) = shown(busy(Progress(RUN, 19, None, None, "", None)))
    assert row == "w0  device 0  ab12cd34  step 19  12.3 s  1.2 GB"


def test_a_run_without_logs_shows_its_seconds() -> None:
    (row,) = shown(busy(None, device=""))
    assert row == "w0  ab12cd34  12.3 s  1.2 GB"


@pytest.mark.parametrize(
    ("state", "word"),
    [(SlotState.STARTING, "starting"), (SlotState.RUNNING, "waits"), (SlotState.BACKOFF, "restarts")],
)
def test_a_worker_without_a_run_shows_its_state(state: SlotState, word: str) -> None:
    assert shown(WorkerSeen(state)) == [f"w0  {word}"]


def test_columns_are_aligned() -> None:
    first, second = shown(busy(), busy(Progress(RUN, 1, 2, 400, "accuracy", 0.5)))
    assert first.index("ab12cd34") == second.index("ab12cd34")
    assert first.index("/40") == second.index("/400") + 1  # numbers end below each other
    assert first.index("GB") == second.index("GB")


def test_a_narrow_terminal_shows_run_step_and_metric() -> None:
    (row,) = shown(busy(), width=39)
    assert row == "w0 ab12cd34 20/40 loss=0.1235 12.3 s"


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
    for second, notice in enumerate(notices):
        workers = advance_workers(workers, notice, float(second))
    return workers


def progress(run_id: str, step: int = 7) -> Progress:
    return Progress(RunId(run_id), step, None, None, "loss", 0.5)


def test_a_worker_has_a_row_from_its_start_to_its_end() -> None:
    assert after(*UP) == {W0: WorkerSeen(SlotState.RUNNING)}
    assert after(*UP, WorkerChanged(W0, SlotState.EXITED)) == {}
    assert after(*UP, WorkerChanged(W0, SlotState.FATAL, "gave up")) == {}


def test_a_row_has_a_run_from_its_beginning_to_its_end() -> None:
    (seen,) = after(*UP, BEGAN, RunProgressed(W0, progress("r1"))).values()
    assert (seen.run_id, seen.device, seen.began_s, seen.progress) == ("r1", "3", 2.0, progress("r1"))
    (seen,) = after(*UP, BEGAN, RunProgressed(W0, progress("r1")), OVER).values()
    assert (seen.run_id, seen.progress) == (None, None)


def test_a_late_notice_of_an_earlier_run_is_ignored() -> None:
    again = RunBegan(W0, RunId("r2"), 1)
    (seen,) = after(*UP, BEGAN, OVER, again, RunProgressed(W0, progress("r1"))).values()
    assert seen.progress is None


def test_memory_is_that_of_the_living_process() -> None:
    (seen,) = after(*UP, MemoryUsed(W0, 100.0)).values()
    assert seen.memory_mb == 100.0
    (seen,) = after(*UP, MemoryUsed(W0, 100.0), WorkerChanged(W0, SlotState.STARTING)).values()
    assert seen.memory_mb is None


def test_a_late_notice_of_an_ended_worker_is_ignored() -> None:
    gone = WorkerChanged(W0, SlotState.EXITED)
    assert after(*UP, gone, MemoryUsed(W0, 1.0), RunProgressed(W0, progress("r1")), OVER) == {}
