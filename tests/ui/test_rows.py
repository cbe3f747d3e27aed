from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.protocol.messages import Progress
from parallel_hpo.ui.rows import WorkerSeen, rows_of
from parallel_hpo.ui.tally import Tally
from parallel_hpo.words import RunId, Slot, SlotState

RUN = RunId("ab12cd34")
HALF_WAY = Progress(RUN, 19, 20, 40, "loss", 0.12345678)


def busy(progress: Progress | None = HALF_WAY, device: str = "0") -> WorkerSeen:
    return WorkerSeen(SlotState.RUNNING, device, RUN, 10.0, progress, 1229.0)


def shown(*workers: WorkerSeen, width: int = 100, most: int = 10) -> list[str]:
    seen = {Slot(slot): worker for slot, worker in enumerate(workers)}
    return [line.plain for line in rows_of(seen, 22.34, Tally().name_of, width=width, most=most)]


def test_a_row_has_device_run_step_metric_seconds_and_memory() -> None:
    (row,) = shown(busy())
    assert row == "w0  device 0  ab12cd34  20/40  50%  loss=0.1235  12.3 s  1.2 GB"


def test_without_a_total_there_is_the_step_alone() -> None:
    (row,) = shown(busy(Progress(RUN, 19, None, None, "", None)))
    assert row == "w0  device 0  ab12cd34  step 19  12.3 s  1.2 GB"


def test_a_run_that_has_logged_nothing_has_its_seconds() -> None:
    (row,) = shown(busy(None, device=""))
    assert row == "w0  ab12cd34  12.3 s  1.2 GB"


@pytest.mark.parametrize(
    ("state", "word"),
    [(SlotState.STARTING, "starting"), (SlotState.RUNNING, "waits"), (SlotState.BACKOFF, "restarts")],
)
def test_a_worker_without_a_run_says_what_it_does(state: SlotState, word: str) -> None:
    assert shown(WorkerSeen(state)) == [f"w0  {word}"]


def test_columns_stand_below_each_other() -> None:
    first, second = shown(busy(), busy(Progress(RUN, 1, 2, 400, "accuracy", 0.5)))
    assert first.index("ab12cd34") == second.index("ab12cd34")
    assert first.index("/40") == second.index("/400") + 1  # numbers end below each other
    assert first.index("GB") == second.index("GB")


def test_forty_columns_have_the_run_its_step_and_its_metric() -> None:
    (row,) = shown(busy(), width=39)
    assert row == "w0 ab12cd34 20/40 loss=0.1235 12.3 s"


def test_workers_beyond_the_room_are_counted_and_busy_ones_come_first() -> None:
    rows = shown(*[WorkerSeen()] * 5, busy(), *[WorkerSeen()] * 4, most=3)
    assert [row.split()[0] for row in rows] == ["w0", "w5", "…"]
    assert rows[-1] == "… and 8 more workers"


@given(
    st.lists(st.sampled_from([busy(), busy(None), WorkerSeen(), busy(device="GPU-" + "a" * 36)]), max_size=9),
    st.integers(1, 120),
    st.integers(0, 12),
)
def test_no_row_is_wider_and_there_are_no_more_than_there_is_room_for(
    workers: list[WorkerSeen], width: int, most: int
) -> None:
    rows = shown(*workers, width=width, most=most)
    assert len(rows) <= most
    assert all(len(row) <= width for row in rows)
