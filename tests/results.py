"""How an artificial sweep ended, and its result without a run."""

from __future__ import annotations

from typing import Final

from parallel_hpo.analysis.result import SweepConclusion, summarise

CLOSING: Final = SweepConclusion(
    sweep_id="s1",
    sweep_url="",
    backend="local",
    count=None,
    stop_reason="count reached",
    exit_code=0,
    duration_s=1.0,
)
RESULT: Final = summarise((), (), CLOSING)
