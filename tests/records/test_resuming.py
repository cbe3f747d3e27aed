from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count.policy import FailureCount
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.resume import (
    ResumeState,
    facts_of,
    find_folder,
    launch_count,
    read_earlier,
    unsent_folders,
)
from tests.analysis import sweeps


def row(number: int = 0, outcome: Outcome | None = Outcome.FINISHED, **changes: Any) -> RunRow:
    times = {"duration_s": None, "last_s": changes.get("duration_s")}
    return sweeps.row(number, {"x": number}, None, outcome, **{**times, **changes})


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 99),
        st.none() | st.sampled_from(Outcome),
        resumable=st.booleans(),
        attempts=st.integers(1, 5),
        deaths=st.integers(0, 5),
    )
)


@given(ROWS)
def test_every_earlier_run_has_ended_or_is_run_again(rows: list[RunRow]) -> None:
    earlier = read_earlier(rows)
    assert earlier.started == len(rows)
    over = [row for row in rows if row.outcome is not None and not row.resumable]
    assert len(earlier.reruns) + len(over) == earlier.started


def test_interrupted_runs_are_run_again_in_the_order_of_their_first_start() -> None:
    rows = [
        *(row(2, None, attempts=3, deaths=2, duration_s=1.5), row(5), row(1, None)),
        *(row(9, Outcome.STOPPED, resumable=True, attempts=2), row(4, Outcome.STOPPED)),
    ]
    first, second, third = read_earlier(rows).reruns
    assert [run.run_id for run in (first, second, third)] == ["run2", "run1", "run9"]
    assert (first.parameters, first.attempt, first.spent_s, first.deaths) == ({"x": 2}, 4, 1.5, 2)
    assert (second.attempt, third.attempt) == (2, 3)


def test_earlier_failures_do_not_count_for_the_failure_limits_but_a_success_does() -> None:
    failed = [row(1, Outcome.FAILED), row(2, Outcome.FAILED), row(3, None)]
    assert read_earlier(failed).failures == FailureCount()
    assert read_earlier([row(0, Outcome.FINISHED), *failed]).failures == FailureCount(none_finished=False)


def counted(count: int | None, facts: Mapping[str, Any], *, given: bool = False) -> tuple[int | None, bool]:
    """Return the count of a launch that continues one with these facts, and whether an option gave it."""
    found = launch_count(count, given=given, facts=facts, earlier=ResumeState(), goes_on=True)
    assert found.was == 6
    return found.count, found.given


def test_a_count_from_a_flag_is_kept_until_another_flag_changes_it() -> None:
    facts = {"count": 9, "before": 3, "count_given": True}
    assert counted(48, facts) == counted(None, facts) == (6, True)
    assert counted(8, facts, given=True) == (8, True)


def test_a_count_from_the_file_can_be_changed_in_the_file() -> None:
    facts = {"count": 6, "before": 0}
    assert (counted(20, facts), counted(None, facts)) == ((20, False), (None, False))


def test_a_launch_that_joins_a_sweep_again_adds_its_own_count() -> None:
    facts = {"count": 6, "before": 0, "count_given": True}
    earlier = read_earlier([row(1, Outcome.FINISHED), row(2, Outcome.FAILED), row(3, None)])
    count = launch_count(4, given=False, facts=facts, earlier=earlier, goes_on=False)
    assert (count.count, count.before, count.total) == (4, 2, 6)


def test_the_run_cap_is_the_total_count_by_default() -> None:
    earlier = read_earlier([row(1, Outcome.FINISHED), row(2, Outcome.FINISHED)])
    totals = [
        launch_count(count, run_cap=9, given=False, facts={}, earlier=earlier, goes_on=False).total
        for count in (None, 5)
    ]
    assert totals == [9, 7]


def test_a_sweep_is_found_by_id_or_path_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there: none"):
        find_folder(tmp_path, "xyz")
    for name in ("abc", "def", "ghi/share-1-of-2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "ledger.db").touch()
    for named in ("abc", "team/project/abc"):
        assert find_folder(tmp_path, named) == tmp_path / "abc"
    with pytest.raises(ConfigError, match=r"no sweep xyz .*there: abc, def, ghi/share-1-of-2"):
        find_folder(tmp_path, "xyz")


def make_offline_run(folder: Path, run_id: str, *, synced: bool = False) -> Path:
    made = folder / "worker-0" / "wandb" / f"offline-run-20260101_000000-{run_id}"
    made.mkdir(parents=True)
    if synced:
        (made / f"run-{run_id}.wandb.synced").touch()
    return made


def test_unsent_offline_data_of_ended_runs_is_found(tmp_path: Path) -> None:
    unsent = make_offline_run(tmp_path, "unsent")
    make_offline_run(tmp_path, "sent", synced=True)
    make_offline_run(tmp_path, "open")
    again = make_offline_run(tmp_path, "again")
    starts = {RunId("unsent"): 0.0, RunId("again"): again.stat().st_mtime + 1}
    ended = (RunId("unsent"), RunId("sent"), RunId("again"))
    assert list(unsent_folders(tmp_path, ended, lambda: starts)) == [("unsent", unsent)]


def test_unsent_data_of_a_second_attempt_within_the_same_second_is_found(tmp_path: Path) -> None:
    make_offline_run(tmp_path, "unsent", synced=True)
    made = tmp_path / "worker-0" / "wandb" / "offline-run-20260101_000000-unsent-1"
    made.mkdir()
    (made / "run-unsent.wandb").touch()
    assert list(unsent_folders(tmp_path, [RunId("unsent")], lambda: {RunId("unsent"): 0.0})) == [
        ("unsent", made)
    ]


def test_a_sweep_of_many_machines_is_not_resumed_on_one(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert facts_of(ledger, "abc") == {"sweep_id": "abc"}
        ledger.record_facts({"machines": "the machines of Dask"})
        assert facts_of(ledger, "abc", many=True) == {"machines": "the machines of Dask"}
        with pytest.raises(ConfigError, match="many machines: resume it with"):
            facts_of(ledger, "abc")
    assert facts_of(None, None) == {}


def test_a_resumed_sweep_knows_how_long_its_earlier_runs_took() -> None:
    rows = [
        row(0, duration_s=5.0),
        row(1, Outcome.FAILED, duration_s=0.1),
        row(2, None, duration_s=1.0),
        row(3, Outcome.STOPPED, duration_s=12.0, attempts=2, last_s=2.0),
        row(4, Outcome.STOPPED, resumable=True, duration_s=0.5),
    ]
    assert read_earlier(rows).took == (5.0, 2.0)
