"""How many runs a launch on many machines goes for, first, again, and on another machine."""

from __future__ import annotations

from typing import Any

from parallel_hpo.cluster.session import PoolCount, count_runs
from parallel_hpo.core.pool_messages import NewPool, Versions
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.reader import RunRow


def row(number: int, outcome: Outcome | None = Outcome.FINISHED) -> RunRow:
    return RunRow(
        RunId(f"run{number}"), {}, Slot(0), None, 1, 0, outcome, "", None, None, resumable=outcome is None
    )


def counted(count: int | None, **known: Any) -> PoolCount:
    asked: dict[str, Any] = {"given": False, "resumes": False, "facts": {}, "rows": (), "known": None}
    return count_runs(count, **asked | known)


def pool(count: int | None) -> NewPool:
    return NewPool(
        path="e/p/s", backend="local", url="", count=count, node_timeout_s=300.0, section={},
        versions=Versions("3.11", "0.28", "0.1"), headed=True,
    )  # fmt: skip


def test_the_first_launch_of_a_sweep_counts_from_nothing() -> None:
    assert (counted(8).total, counted(None).total) == (8, None)


def test_a_sweep_that_is_joined_again_performs_so_many_more() -> None:
    count = counted(8, rows=[row(1), row(2), row(3, None)])
    assert (count.total, count.before) == (10, 2)


def test_a_resumed_sweep_keeps_its_count_unless_another_is_asked_for() -> None:
    facts = {"count": 8, "before": 2, "count_given": True}
    assert counted(None, resumes=True, facts=facts).total == 8
    assert counted(10, resumes=True, given=True, facts=facts).total == 12


def test_what_this_machine_does_not_know_of_the_count_the_pool_does() -> None:
    count = counted(None, resumes=True, known=pool(8))
    assert (count.total, count.before) == (8, 0)
    assert counted(12, resumes=True, known=pool(8)).total == 12


def test_the_run_cap_is_the_count_of_all_where_none_is_given() -> None:
    assert (counted(None, run_cap=9).total, counted(8, run_cap=9).total) == (9, 8)
    again = counted(None, run_cap=9, resumes=True, facts={"count": 9, "before": 0})
    assert (again.total, again.asked.is_raised) == (9, False)
    joined_again = counted(None, run_cap=9, rows=[row(1), row(2)])
    assert (joined_again.total, joined_again.before) == (9, 2)
