"""What a sweep configuration says, once checked: method, metric and one distribution per parameter.

`sweep` makes these from a user's mapping; `search` draws from them. A variant that
differs only in how its bounds are written (exponents or values, inverse or not)
is the same class here. Frozen; none does anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from parallel_hpo.config.checks import EarlyTerminate

ParameterPath = tuple[str, ...]
"""Where a parameter stands: the names from the outermost `parameters` inwards."""

SEED: Final = "parallel_hpo_seed"
"""Under this key a sweep server of ours is told what it is to draw by."""


class Method(StrEnum):
    """How a sweep chooses its runs' parameters."""

    GRID = "grid"
    RANDOM = "random"
    BAYES = "bayes"
    CUSTOM = "custom"
    """By a `wandb sweep-scheduler` of the user's own."""

    @property
    def enumerates(self) -> bool:
        """Whether it goes through all values of each parameter."""
        return self is Method.GRID

    @property
    def needs_metric(self) -> bool:
        """Whether it learns from what runs reached."""
        return self is Method.BAYES


class Goal(StrEnum):
    """Which way a metric is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric that the sweep optimizes; `target`: the sweep is over once a run reaches it."""

    name: str
    goal: Goal = Goal.MINIMIZE
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """Always `value`."""

    value: Any


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of `values`, each with its probability; None: all alike."""

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
    """One parameter, however deep it is nested."""

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
    """What the parameters are drawn by; None: chance."""
    scheduled: bool = False
    """All runs come from a `wandb sweep-scheduler`, whatever the method is."""
