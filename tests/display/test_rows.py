from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import MemoryUsed, Notice, RunBegan, RunProgressed, WorkerChanged
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.display.rows import Workers, WorkerSeen, advance_workers, rows_of
from parallel_hpo.display.text import RunCounts
from tests.display.conftest import over

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
def test_a_row_has_what_is_known_of_its_worker(worker: WorkerSeen, width: int, row: str) -> None:
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


def test_a_row_has_a_run_from_its_beginning_to_its_end() -> None:
    (seen,) = after(BEGAN, progressed("r1")).values()
    assert (seen.run_id, seen.device, seen.began_s, seen.progress) == (
        "r1",
        "3",
        2.0,
        progressed("r1").progress,
    )
    (seen,) = after(BEGAN, progressed("r1"), over()).values()
    assert (seen.run_id, seen.progress) == (None, None)


def test_late_progress_of_an_earlier_run_is_ignored() -> None:
    (seen,) = after(BEGAN, over(), RunBegan(W0, RunId("r2"), 1), progressed("r1")).values()
    assert seen.progress is None


def test_memory_is_that_of_the_living_process() -> None:
    (seen,) = after(MemoryUsed(W0, 100.0)).values()
    assert seen.memory_mb == 100.0
    (seen,) = after(MemoryUsed(W0, 100.0), WorkerChanged(W0, SlotState.STARTING)).values()
    assert seen.memory_mb is None
