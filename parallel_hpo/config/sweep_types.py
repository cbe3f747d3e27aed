"""Types of a checked sweep configuration: method, metric and one distribution per parameter.

`config/sweep.py` makes them from a user's mapping; the server's `search` samples from them. Distributions
that differ only in how their bounds are written (exponents or values, inverse or not) are one class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from parallel_hpo.config.checks import EarlyTerminate

ParameterPath = tuple[str, ...]
"""Names from the outermost `parameters` inwards to a parameter."""

SEED: Final = "parallel_hpo_seed"
"""Key of the sampling seed in the sweep configuration sent to a parallel_hpo server."""


class Method(StrEnum):
    """How a sweep chooses its runs' parameters."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"
    CUSTOM = "custom"
    """Chosen by the user's own `wandb sweep-scheduler`."""

    @property
    def enumerates(self) -> bool:
        """Return whether it tries all values of each parameter."""
        return self is Method.GRID

    @property
    def needs_metric(self) -> bool:
        """Return whether it learns from the runs' values."""
        return self is Method.BAYES


class Goal(StrEnum):
    """Direction in which a metric is optimized."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric that the sweep optimizes; the sweep ends when a run reaches `target`."""

    name: str
    goal: Goal = Goal.MINIMIZE
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """Always `value`."""

    value: Any


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `values`, each with its probability; None: equally likely."""

    values: tuple[Any, ...]
    probabilities: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class IntUniform:
    """An integer from `min` to `max`, both included."""

    min: int
    max: int


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from `min` to `max`; with `q` rounded to its multiples (an int `q` gives ints)."""

    min: int | float
    max: int | float
    q: int | float | None = None


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A number whose logarithm is uniform; `min` and `max` are values above 0, not exponents."""

    min: float
    max: float
    q: int | float | None = None


@dataclass(frozen=True, slots=True)
class Normal:
    """A normally distributed number."""

    mu: float
    sigma: float
    q: int | float | None = None


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A number whose natural logarithm has mean `mu` and standard deviation `sigma`."""

    mu: float
    sigma: float
    q: int | float | None = None


@dataclass(frozen=True, slots=True)
class Beta:
    """A beta distributed number between 0 and 1."""

    a: float
    b: float
    q: int | float | None = None


Continuous = Uniform | LogUniform | Normal | LogNormal | Beta
Distribution = Constant | Categorical | IntUniform | Continuous


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, nested or not."""

    path: ParameterPath
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class SweepConfiguration:
    """A checked sweep configuration; `parameters` are sorted by path."""

    method: Method
    metric: Metric | None
    parameters: tuple[Parameter, ...]
    early_terminate: EarlyTerminate | None = None
    run_cap: int | None = None
    seed: int | None = None
    """Sampling seed; None: random."""
    scheduled: bool = False
    """Whether all runs come from a `wandb sweep-scheduler`, with any method."""
