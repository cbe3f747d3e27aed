"""A row of the benchmark's table: its definition, measurement and statistics."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.benchmarks.scene import Scene

Measure = Callable[[Scene], float]


@dataclass(frozen=True)
class Row:
    """A benchmark, measured alternately with its baseline."""

    name: str
    what: str
    unit: str
    ours: Measure
    against: str = ""
    """Description of the baseline; '' without one."""
    baseline: Measure | None = None
    ratio_goal: float | None = None
    """Maximum ratio to the baseline."""
    value_goal: float | None = None
    """Maximum value."""
    repeat: int = 5


@dataclass(frozen=True)
class Figures:
    """The measurements of a row, in order."""

    row: Row
    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def baseline_median(self) -> float | None:
        return statistics.median(self.baseline) if self.baseline else None

    @property
    def ratio(self) -> float | None:
        """Ratio of our median to the baseline's."""
        return self.median / self.baseline_median if self.baseline_median else None

    @property
    def ratios(self) -> tuple[float, float] | None:
        """Smallest and largest ratio of two consecutive measurements."""
        pairs = [ours / other for ours, other in zip(self.ours, self.baseline, strict=False) if other]
        return (min(pairs), max(pairs)) if pairs else None

    @property
    def reached(self) -> bool | None:
        """Whether the row's goals were reached; None without goals."""
        row = self.row
        goals = ((self.ratio, row.ratio_goal), (self.median, row.value_goal))
        verdicts = [figure is not None and figure <= goal for figure, goal in goals if goal is not None]
        return all(verdicts) if verdicts else None

    def as_json(self) -> dict[str, Any]:
        row = self.row
        return {
            "row": row.name,
            "what": row.what,
            "unit": row.unit,
            "against": row.against,
            "ours": self.ours,
            "baseline": self.baseline,
            "median": self.median,
            "baseline_median": self.baseline_median,
            "ratio": self.ratio,
            "ratio_goal": row.ratio_goal,
            "value_goal": row.value_goal,
            "reached": self.reached,
        }


def measure(row: Row, scene: Scene, repeat: int | None) -> Figures:
    """Measure a row and its baseline alternately, so that other load affects both."""
    ours, baseline = [], []
    for _ in range(repeat or row.repeat):
        ours.append(row.ours(scene))
        if row.baseline is not None:
            baseline.append(row.baseline(scene))
    return Figures(row, tuple(ours), tuple(baseline))
