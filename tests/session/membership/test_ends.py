from __future__ import annotations

from parallel_hpo.core.messages import AttemptEnd, Consumption
from parallel_hpo.core.pool_messages import PooledEnd, as_json, read
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.session.count import end_of
from parallel_hpo.session.decide.events import RecordEnd
from parallel_hpo.session.decide.state import OpenRun


def test_a_pool_gets_the_consumption_of_an_attempt_and_of_a_requeued_one() -> None:
    run, used = OpenRun(RunId("a"), {}, 2, since=5.0, spent_s=3.0), Consumption(1.5, None, 0.25)
    end = AttemptEnd(outcome=Outcome.STOPPED, duration_s=4.0, resumable=True, consumption=used)
    told = end_of(RecordEnd(Slot(0), run, end, final=True, died=False))
    assert (told.duration_s, told.consumption) == (1.0, used)
    assert read(PooledEnd, as_json(told)) == told
