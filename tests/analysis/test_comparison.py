"""Comparison of sweeps whose attempts have known times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from parallel_hpo.analysis.comparison import ComparedSweep, Cost, Standing, compare
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.reader import Attempt
from tests.analysis.sweeps import result_of, row

HOUR = 3600.0


def attempt(run: int, begin: float, end: float | None, number: int = 1) -> Attempt:
    outcome = None if end is None else Outcome.FINISHED
    took_s = None if end is None else (end - begin) * HOUR
    return Attempt(RunId(f"run{run}"), number, Slot(0), begin * HOUR, outcome, "", took_s)


def sweep(
    *values: float | None,
    name: str = "abc",
    goal: str = "minimize",
    attempts: Sequence[Attempt] | None = None,
) -> ComparedSweep:
    """A sweep of runs of an hour each, one after another; None: a failed run."""
    rows = [
        row(number, {"x": number}, value, Outcome.FAILED if value is None else Outcome.FINISHED)
        for number, value in enumerate(values)
    ]
    known = replace(result_of(rows, goal=goal), sweep_id=name)
    return ComparedSweep(
        known, attempts or [attempt(number, number, number + 1) for number in range(len(values))]
    )


def reached(*contenders: ComparedSweep, reach: float | None = None) -> list[tuple[str, int] | None]:
    """Return the first run that reached the value, and the number of runs."""
    standings = compare(contenders, reach).standings
    return [
        None if each.reached is None else (each.reached.run_id, each.reached.cost.runs) for each in standings
    ]


def alone(contender: ComparedSweep) -> Standing:
    return compare([contender], None).standings[0]


def test_the_default_target_is_the_worst_best_value() -> None:
    fast, slow = sweep(5.0, 2.0, 1.0), sweep(9.0, 8.0, None, 3.0, 7.0)
    comparison = compare([fast, slow], None)
    assert comparison.reach == 3.0
    assert reached(fast, slow) == [("run1", 2), ("run3", 4)]
    assert [each.rank for each in comparison.standings] == [1, 2]


def test_a_maximized_value_is_best_at_its_maximum() -> None:
    comparison = compare([sweep(0.5, 0.7, goal="maximize"), sweep(0.9, goal="maximize")], None)
    assert comparison.reach == 0.7
    assert [each.rank for each in comparison.standings] == [2, 1]
    assert reached(sweep(0.5, 0.7, goal="maximize"), reach=0.6) == [("run1", 2)]


def test_a_target_may_be_reached_by_no_sweep() -> None:
    assert reached(sweep(5.0, 2.0), sweep(9.0), reach=4.0) == [("run1", 2), None]


def test_equal_best_values_share_a_rank() -> None:
    standings = compare([sweep(2.0), sweep(None), sweep(2.0), sweep(3.0)], None).standings
    assert [each.rank for each in standings] == [1, None, 1, 3]


def test_sweeps_without_any_value_are_compared_by_their_cost_alone() -> None:
    comparison = compare([sweep(None), sweep(None, None)], None)
    assert (comparison.reach, comparison.not_ranked) == (None, None)
    assert [(each.rank, each.reached) for each in comparison.standings] == [(None, None)] * 2
    assert [each.cost.runs for each in comparison.standings] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "acc"}, "abc minimizes loss, def minimizes acc"),
        ({"goal": "maximize"}, "abc minimizes loss, def maximizes loss"),
        ({"metric": None}, "not every sweep has a metric: abc minimizes loss, def has none"),
    ],
)
def test_different_metrics_or_goals_are_not_ranked(changes: dict[str, str | None], words: str) -> None:
    other = sweep(2.0, name="def")
    other = replace(other, sweep=replace(other.sweep, **changes))  # type: ignore[type-var]
    comparison = compare([sweep(1.0), other], None)
    assert words in (comparison.not_ranked or "")
    assert comparison.reach is None
    standings = [(each.rank, each.reached, each.cost.run_hours) for each in comparison.standings]
    assert standings == [(None, None, 1.0)] * 2


def test_a_retried_run_counts_once_with_all_its_hours() -> None:
    attempts = [attempt(0, 0, 1), attempt(0, 10, 12, number=2), attempt(1, 1, 2)]
    contender = sweep(3.0, 2.0, attempts=attempts)
    assert alone(contender).cost == Cost(2, run_hours=4.0, wall_hours=4.0)
    assert reached(contender, reach=3.0) == [("run1", 1)]


def test_running_attempts_cost_up_to_now() -> None:
    attempts = [attempt(0, 0, 1), attempt(1, 1, None), attempt(1, 3, None, number=2)]
    cut = sweep(3.0, None, attempts=attempts)
    assert alone(cut).cost == Cost(1, run_hours=1.0, wall_hours=1.0)
    assert alone(replace(cut, now=5 * HOUR)).cost == Cost(1, run_hours=3.0, wall_hours=3.0)


def test_a_value_counts_once_its_run_has_ended() -> None:
    attempts = [attempt(0, 0, 1), attempt(1, 1, None)]
    assert reached(sweep(3.0, 2.0, attempts=attempts), reach=2.0) == [None]
    early = [attempt(0, 5, 6), attempt(1, 0, 1)]
    assert reached(sweep(2.0, 2.0, attempts=early), reach=2.0) == [("run1", 1)]


def test_concurrent_runs_share_wall_hours_and_count_up_to_the_target() -> None:
    contender = sweep(3.0, 2.0, 1.0, attempts=[attempt(0, 0, 4), attempt(1, 1, 3), attempt(2, 6, 7)])
    assert alone(contender).cost == Cost(3, run_hours=7.0, wall_hours=5.0)
    found = compare([contender], 2.0).standings[0].reached
    assert found is not None
    assert (found.run_id, found.value, found.cost) == ("run1", 2.0, Cost(1, run_hours=5.0, wall_hours=3.0))
