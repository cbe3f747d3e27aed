"""Suggestions of TPE, which takes over from the Gaussian process when there are many results."""

from __future__ import annotations

import math
import statistics

from parallel_hpo.config.sweep_types import Uniform
from parallel_hpo.server.search import tpe
from parallel_hpo.server.search.axes import Axis, IntervalAxis, LevelAxis, Observation
from parallel_hpo.server.search.sampling import stream
from parallel_hpo.server.search.space import Listed, Stepped

AXES: tuple[Axis, ...] = (
    IntervalAxis(("lr",), Uniform(0.0, 1.0, None), None),
    LevelAxis(("layers",), Stepped(9), ordered=True),
    LevelAxis(("kind",), Listed("abc"), ordered=False),
)


def loss(coordinates: tuple[float, ...]) -> float:
    lr, layers, kind = coordinates
    return (lr - 0.3) ** 2 + abs(layers - 6) / 9 + (0.0 if kind == 2 else 0.5)


def results(count: int) -> list[Observation]:
    source = stream(0, 0)
    points = [(source.random(), source.randrange(9), source.randrange(3)) for _ in range(count)]
    return [Observation(index, point, loss(point)) for index, point in enumerate(points)]


def firsts(observations: list[Observation]) -> list[tuple[float, ...]]:
    return [next(tpe.suggestions(AXES, observations, seed=seed)) for seed in range(15)]


def test_it_suggests_better_points_than_chance() -> None:
    known = results(150)
    by_chance = statistics.median(result.loss for result in known if result.loss is not None)
    assert statistics.median(map(loss, firsts(known))) < by_chance / 3


def test_each_suggestion_is_drawn_anew_and_is_a_point_of_the_space() -> None:
    drawn = list(tpe.suggestions(AXES, results(50), seed=1))
    assert len(set(drawn)) == len(drawn) > 1
    for lr, layers, kind in drawn:
        assert 0 <= lr <= 1
        assert layers in range(9)
        assert kind in range(3)


def test_failed_points_are_avoided_like_running_ones() -> None:
    known = results(50)
    crowd = [(50 + index, (0.25 + 0.01 * index, 6, 2)) for index in range(10)]
    failed = firsts([*known, *(Observation(index, coordinates, math.inf) for index, coordinates in crowd)])
    running = firsts([*known, *(Observation(index, coordinates, None) for index, coordinates in crowd)])
    assert failed == running != firsts(known)


def test_a_single_prior_run_is_not_dropped() -> None:
    known = results(50)
    prior = Observation(-1, (0.3, 6, 2), 0.0)
    assert firsts([prior, *known]) != firsts(known)
