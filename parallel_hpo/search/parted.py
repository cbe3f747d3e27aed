"""A belief of the loss in one piece, or with a part of its own for each level of a choice.

Where a choice decides which of the other parameters matter (a model's kind, say), one piece
averages over what each does beside the others, and gives up good levels by a few bad runs. Parts
know less each, and so are tried longer. Which serves better, the likelihoods tell.

Losses are taken with mean 0, variance 1, and in one of two shapes. Brought near to a bell (Yeo and
Johnson 2000), a few huge losses don't hide the differences between the small ones. But a bell also
stretches the noise of the small ones: where noise is all that tells them apart, losses as they are say
more. Which shape serves better, the likelihoods tell, each with the density that its shape gives to losses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound

from parallel_hpo.search.columns import Choice, Column, Table
from parallel_hpo.search.gaussian import NOISY, Surface, fit

_FAR: Final = 5.0
"""Losses are cut off so many times as far above the median as the best one lies below it."""

_EXACT: Final = 1.48e-8
"""How near a power is to the likeliest one."""
_STEPS: Final = 12
"""A part's fit takes fewer steps than a whole one's: there are many parts, and an ask has but 50 ms."""
_FEWEST: Final = 2
"""A level with fewer results can't be a part of its own."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """Losses in a shape; `density`: the logarithm of how much closer together it brings the standard ones."""

    losses: Column
    density: float = 0.0


def cut_off(losses: Column) -> Column:
    """Return the losses, none far above the others, with mean 0 and variance 1; 0 where all are equal."""
    small = losses / 16  # since the difference of two floats, or five times it, may be none
    lowest, median, highest = small.min(), np.median(small), small.max()
    if lowest < median:
        highest = min(highest, median + _FAR * (median - lowest))
    if lowest == highest:
        return np.zeros(len(losses))
    spread = (np.minimum(small, highest) - lowest) / (highest - lowest)
    standard: NDArray[np.float64] = (spread - spread.mean()) / spread.std()
    return standard


def bell_shaped(standard: Column) -> Shaped:
    """Return losses that are `cut_off` already without long tails, in their order."""
    if not standard.any():
        return Shaped(standard)
    bend = _Bend(standard)
    power = bend.likeliest()
    bent = bend.to(power)
    spread = float(bent.std())
    density = (power - 1) * bend.slope - len(bent) * float(np.log(spread))
    return Shaped((bent - bent.mean()) / spread, density)


class _Bend:
    """Yeo and Johnson's transform of losses of which some lie below 0, by its power.

    It is scipy's and scikit-learn's, without what these look after at each of some forty steps: that took
    a fifth of an ask.
    """

    def __init__(self, losses: Column) -> None:
        self._below = losses < 0
        self._logs = np.log1p(np.abs(losses))
        self._greatest = float(np.log1p(20 * np.abs(losses).max()))  # with room for those to come
        self.slope = float((np.sign(losses) * self._logs).sum())

    def to(self, power: float) -> Column:
        """Return the losses bent by a power."""
        powers = np.where(self._below, 2 - power, power)
        flat = np.abs(powers) < np.finfo(float).eps
        steep = np.where(flat, 1.0, powers)
        bent = np.where(flat, self._logs, np.expm1(steep * self._logs) / steep)
        return np.where(self._below, -bent, bent)

    def likeliest(self) -> float:
        """Return the power that makes of the losses what comes likeliest from a bell."""
        limits = np.finfo(float)
        least = (np.log(limits.tiny) - np.log(limits.eps)) / 2 / self._greatest
        most = (np.log(limits.max) + np.log(limits.eps)) / 2 / self._greatest
        within = max(2 - most, least), min(2 - least, most)  # half of a float's exponents is for the variance
        return float(fminbound(self._unlikeliness, *within, xtol=_EXACT))

    def _unlikeliness(self, power: float) -> float:
        variance = float(self.to(power).var())
        if variance < np.finfo(float).tiny:
            return math.inf
        return len(self._logs) / 2 * math.log(variance) - (power - 1) * self.slope


class Parted:
    """What is believed where each level of a choice has a surface of its own."""

    def __init__(self, choice: Choice, parts: Sequence[Surface], losses: Column) -> None:
        self.losses = losses
        self.noise = max(part.noise for part in parts)
        self._choice = choice
        self._parts = parts

    def told(self, columns: Table, losses: Column) -> Parted:
        """Return what is believed after more points."""
        levels = self._choice.levels_in(columns)
        parts = [
            part.told(columns[levels == level], losses[levels == level]) if level in levels else part
            for level, part in enumerate(self._parts)
        ]
        return Parted(self._choice, parts, np.concatenate([self.losses, losses]))

    def mean(self, columns: Table) -> Column:
        """Return the loss expected at each point."""
        return self.mean_and_deviation(columns)[0]

    def mean_and_deviation(self, columns: Table) -> tuple[Column, Column]:
        """Return the loss expected to be seen at each point, and its standard deviation."""
        levels = self._choice.levels_in(columns)
        means, deviations = np.empty(len(columns)), np.empty(len(columns))
        for level in np.unique(levels):
            there = levels == level
            means[there], deviations[there] = self._parts[level].mean_and_deviation(columns[there])
        return means, deviations


Belief = Surface | Parted


def likeliest(columns: Table, losses: Column, choices: Sequence[Choice] = ()) -> Belief:
    """Return what is most likely after the losses, in the shape that makes them likeliest.

    Without noise that is the bell, and no other is tried: a second fit takes as long as the first.
    """
    standard = cut_off(losses)
    belief, likelihood = _likeliest(columns, bell_shaped(standard), choices)
    if belief.noise < NOISY:
        return belief
    other, others_likelihood = _likeliest(columns, Shaped(standard), choices)
    return belief if likelihood >= others_likelihood else other


def _likeliest(columns: Table, shaped: Shaped, choices: Sequence[Choice]) -> tuple[Belief, float]:
    """Return what is most likely of the losses in this shape, and the logarithm of how likely that is."""
    beliefs: list[tuple[Belief, float]] = [fit(columns, shaped.losses), *_parted(columns, shaped, choices)]
    belief, likelihood = max(beliefs, key=lambda each: each[1])
    return belief, likelihood + shaped.density


def _parted(columns: Table, shaped: Shaped, choices: Sequence[Choice]) -> Iterator[tuple[Parted, float]]:
    for choice in choices:
        levels = choice.levels_in(columns)
        there = [levels == level for level in range(choice.size)]
        if min(map(np.count_nonzero, there)) >= _FEWEST:
            fits = [fit(columns[some], shaped.losses[some], most_steps=_STEPS) for some in there]
            parts = [surface for surface, _ in fits]
            yield Parted(choice, parts, shaped.losses), sum(likelihood for _, likelihood in fits)
