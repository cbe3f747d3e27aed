"""An artificial result of a sweep."""

from __future__ import annotations

from typing import Final

from parallel_hpo.analysis.result import SweepResult

RESULT: Final = SweepResult(
    sweep_id="s1",
    sweep_url="",
    backend="local",
    count=None,
    attempted=0,
    finished=0,
    failed=0,
    crashed=0,
    retried=0,
    stopped=0,
    lost=0,
    best=None,
    workers=(),
    runs=(),
    stop_reason="count reached",
    exit_code=0,
    duration_s=1.0,
)
"""Result of a sweep without runs."""
