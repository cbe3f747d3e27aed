from __future__ import annotations

from parallel_hpo.notices import MemoryUsed, Notice, RunBegan, RunOver, RunProgressed, WorkerChanged
from parallel_hpo.protocol.messages import Progress
from parallel_hpo.ui.rows import Workers, WorkerSeen, advance_workers
from parallel_hpo.words import Outcome, RunId, Slot, SlotState

W0 = Slot(0)
UP = (WorkerChanged(W0, SlotState.STARTING), WorkerChanged(W0, SlotState.RUNNING))
BEGAN = RunBegan(W0, RunId("r1"), 1, {}, "3")
OVER = RunOver(W0, RunId("r1"), 1, Outcome.FINISHED, "", 0.5, 3.0)


def after(*notices: Notice) -> Workers:
    workers: Workers = {}
    for second, notice in enumerate(notices):
        workers = advance_workers(workers, notice, float(second))
    return workers


def progress(run_id: str, step: int = 7) -> Progress:
    return Progress(RunId(run_id), step, None, None, "loss", 0.5)


def test_a_worker_is_known_from_its_start_to_its_end() -> None:
    assert after(*UP) == {W0: WorkerSeen(SlotState.RUNNING)}
    assert after(*UP, WorkerChanged(W0, SlotState.EXITED)) == {}
    assert after(*UP, WorkerChanged(W0, SlotState.FATAL, "gave up")) == {}


def test_a_run_is_on_from_its_beginning_to_its_end() -> None:
    (seen,) = after(*UP, BEGAN, RunProgressed(W0, progress("r1"))).values()
    assert (seen.run_id, seen.device, seen.began_s, seen.progress) == ("r1", "3", 2.0, progress("r1"))
    (seen,) = after(*UP, BEGAN, RunProgressed(W0, progress("r1")), OVER).values()
    assert (seen.run_id, seen.progress) == (None, None)


def test_a_late_word_of_an_earlier_run_says_nothing_of_the_next() -> None:
    again = RunBegan(W0, RunId("r2"), 1)
    (seen,) = after(*UP, BEGAN, OVER, again, RunProgressed(W0, progress("r1"))).values()
    assert seen.progress is None


def test_memory_is_the_living_processs_own() -> None:
    (seen,) = after(*UP, MemoryUsed(W0, 100.0)).values()
    assert seen.memory_mb == 100.0
    (seen,) = after(*UP, MemoryUsed(W0, 100.0), WorkerChanged(W0, SlotState.STARTING)).values()
    assert seen.memory_mb is None


def test_what_is_said_of_a_worker_that_is_gone_brings_none_back() -> None:
    gone = WorkerChanged(W0, SlotState.EXITED)
    assert after(*UP, gone, MemoryUsed(W0, 1.0), RunProgressed(W0, progress("r1")), OVER) == {}
