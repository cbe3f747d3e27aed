"""What the analysis knows of a sweep: `SweepResult` and its runs are such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol


class AnalysedRun(Protocol):
    """A run; each field means what `RunSummary`'s of that name does."""

    @property
    def run_id(self) -> str: ...
    @property
    def parameters(self) -> dict[str, Any]: ...
    @property
    def attempts(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def slot(self) -> int: ...
    @property
    def device(self) -> str | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def started_at(self) -> float | None: ...
    @property
    def machine(self) -> str | None: ...


class AnalysedSweep(Protocol):
    """A sweep, over or under way."""

    @property
    def sweep_id(self) -> str: ...
    @property
    def metric(self) -> str | None: ...
    @property
    def goal(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def runs(self) -> Sequence[AnalysedRun]: ...


def dotted(values: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is nested in objects under dotted names; an empty object and W&B's media are values."""
    for name, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value:  # as JSON makes them
            yield from dotted(value, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", value
