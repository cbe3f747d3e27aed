"""How an attempt ended, and why a sweep is left: the shapes that all share who speak of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from parallel_hpo.consumption import UNKNOWN, Consumption
from parallel_hpo.words import Outcome, StopKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """How an attempt ended, and with the last one its run."""

    outcome: Outcome
    reason: str = ""
    value: float | None = None
    """The sweep's metric as the run's summary has it; None where it has none."""
    duration_s: float = 0.0
    """What the attempt took, once its supervisor says so; of a run that is over: all of its attempts."""
    resumable: bool = False
    """It was stopped by us, not by the sweep: a resumed sweep runs it again, or another machine."""
    traceback: str = ""
    """Of the exception that it failed by; '' where there is none, or a program has printed it."""
    consumption: Consumption = UNKNOWN
    """What the attempt has used, once that is measured."""

    @classmethod
    def like(cls, end: AttemptEnd, *words: Any, **changes: Any) -> Self:
        """Return one that says the same, in a message of this class with these words, but for the changes."""
        told = {field.name: getattr(end, field.name) for field in fields(AttemptEnd)}
        return cls(*words, **told | changes)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the sweep's processes leave, here or on all machines, and with which exit code."""

    reason: str
    exit_code: int
    stop: StopKind | None = None
    """None: nothing is left to do."""
