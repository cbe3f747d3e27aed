"""The steps of runs that a program performs, as the sweep's server knows them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import RunId, Slot
from parallel_hpo.session.program_steps import ProgramSteps


def test_only_changed_steps_are_reported_and_an_unreachable_server_is_asked_again() -> None:
    first, second = (Progress(RunId("one"), step, None, None, "loss", 0.5) for step in (3, 4))
    away = BackendError("away")
    answers: list[Sequence[tuple[Slot, Progress]] | BackendError]
    answers = [[(Slot(0), first)], away, [(Slot(0), first)], [(Slot(0), second)]]
    told, enough = list[tuple[Slot, Progress]](), threading.Event()

    def ask() -> Sequence[tuple[Slot, Progress]]:
        answer = answers.pop(0)
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def tell(slot: Slot, progress: Progress) -> None:
        told.append((slot, progress))
        if not answers:
            steps.close()
            enough.set()

    steps = ProgramSteps(ask, tell, every_s=0.001)
    steps.start()
    assert enough.wait(30)
    steps.join(30)
    assert told == [(Slot(0), first), (Slot(0), second)]
