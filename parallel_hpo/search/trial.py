"""What an engine is told of a run: the parameters it was given, and what came of them.

*Trial* is Optuna's word, and is used where a search engine speaks; everywhere else
it is a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TrialState(StrEnum):
    """What is known of a trial's value."""

    PENDING = "pending"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: its 0-based index in the sweep, the parameters it was issued with, its metric's value.

    `stopped_at`: after how many values of the metric it was stopped early; None: it went to its end.
    """

    index: int
    parameters: Mapping[str, Any]
    state: TrialState
    value: float | None = None
    stopped_at: int | None = None
