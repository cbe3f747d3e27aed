from __future__ import annotations

from parallel_hpo.consumption import Consumption
from parallel_hpo.protocol.ends import AttemptEnd
from parallel_hpo.protocol.pool import PooledEnd
from parallel_hpo.protocol.wire import as_json, read
from parallel_hpo.supervisor.decisions.actions import RecordEnd
from parallel_hpo.supervisor.decisions.view import OpenRun
from parallel_hpo.supervisor.membership.telling import end_of
from parallel_hpo.words import Outcome, RunId, Slot


def test_a_pool_is_told_what_an_attempt_has_used_also_of_one_that_is_handed_on() -> None:
    run, used = OpenRun(RunId("a"), {}, 2, since=5.0, spent_s=3.0), Consumption(1.5, None, 0.25)
    end = AttemptEnd(outcome=Outcome.STOPPED, duration_s=4.0, resumable=True, consumption=used)
    told = end_of(RecordEnd(Slot(0), run, end, final=True, died=False))
    assert (told.duration_s, told.consumption) == (1.0, used)
    assert read(PooledEnd, as_json(told)) == told
