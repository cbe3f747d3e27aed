"""Notices that travel from a machine to the head, as JSON."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from parallel_hpo.core.messages import MissingMetric, Progress
from parallel_hpo.core.notices import (
    MemoryUsed,
    Message,
    Notice,
    OutputLine,
    RunBegan,
    RunOver,
    RunProgressed,
    SweepOpened,
    SweepOver,
    WorkerChanged,
    WorkerNamed,
    from_json,
    to_json,
)
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, SweepId, SweepPath

PATH = SweepPath("e", "p", SweepId("s"))
NOTICES: list[Notice] = [
    SweepOpened(PATH, "http://w", "local", 3, 2, (2, 1), "/sweeps/s", "loss", "minimize"),
    WorkerNamed(Slot(0), "gpu2/w0"),
    RunBegan(Slot(1), RunId("r"), 2, {"x": 0.5, "layers": [1, 2]}, "GPU-1"),
    RunProgressed(Slot(0), Progress(RunId("r"), 3, 1.0, 2.0, "loss", 0.25)),
    MemoryUsed(Slot(0), 12.5),
    RunOver(Slot(0), RunId("r"), 1, Outcome.CRASHED, "SIGKILL", None, 1.5, again=True),
    MissingMetric("nothing", ("a", "b")),
    WorkerChanged(Slot(0), SlotState.BACKOFF, "SIGKILL"),
    OutputLine(Slot(0), "epoch 1"),
    Message("a word", warning=True),
    SweepOver(0),
]


def test_every_kind_of_notice_travels() -> None:
    assert {type(notice) for notice in NOTICES} == set(get_args(Notice))
    assert [from_json(json.loads(json.dumps(to_json(notice)))) for notice in NOTICES] == NOTICES


@pytest.mark.parametrize(
    "body", [{}, {"notice": "Nonsense"}, {"notice": "OutputLine", "slot": 1}, {"notice": "SweepOver"}]
)
def test_what_is_no_notice_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not a kind of notice|Line|SweepOver"):
        from_json(body)
