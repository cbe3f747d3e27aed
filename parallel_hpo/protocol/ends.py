"""How an attempt ended: the one shape that its worker, its supervisor, the ledger and a pool all speak of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from parallel_hpo.consumption import UNKNOWN, Consumption
from parallel_hpo.words import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
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
    def like(cls, end: End, *words: Any, **changes: Any) -> Self:
        """Return one that says the same, in a message of this class with these words, but for the changes."""
        told = {field.name: getattr(end, field.name) for field in fields(End)}
        return cls(*words, **told | changes)
