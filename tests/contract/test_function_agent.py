"""wandb's own function agent and wandb.Api() against the server: one sweep, looked at from all sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contract.serving import Server, serving
from tests.postgresql import PostgreSQL


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, Any]:
    """What the client saw of a whole sweep."""
    answers: dict[str, Any] = server.client("grid.py")
    return answers


def test_a_verified_login_succeeds(answers: dict[str, Any]) -> None:
    assert answers["login"] is True


@pytest.mark.leans_on_wandb
def test_each_point_of_the_grid_is_performed_once_with_nested_values(answers: dict[str, Any]) -> None:
    assert sorted(point["x"] for point in answers["seen"]) == [1, 2, 3]
    assert {point["lr"] for point in answers["seen"]} == {0.1}


def test_the_sweep_and_its_runs_are_finished(answers: dict[str, Any]) -> None:
    assert answers["state"] == "FINISHED"
    assert answers["expected"] == 3
    assert sorted((run["state"], run["x"]) for run in answers["runs"]) == [("finished", x) for x in (1, 2, 3)]
    assert answers["agents"] == [3]


@pytest.mark.leans_on_wandb
def test_the_best_run_has_the_lowest_summary_value(answers: dict[str, Any]) -> None:
    assert (answers["best"], answers["summary"]) == (1, 3)


@pytest.mark.leans_on_wandb
def test_the_history_is_all_there(answers: dict[str, Any]) -> None:
    assert answers["history"] == answers["keyed"] == answers["scanned_keys"] == [1, 2, 3]
    assert answers["scanned"] == [0, 1, 2]
    assert answers["last_step"] == 2


def test_nan_survives(answers: dict[str, Any]) -> None:
    assert answers["nan"] == ["nan"] * 3


def test_a_preempted_run_is_resumed_under_the_same_id(server: Server) -> None:
    answers = server.client("preempted.py")
    (first, second) = answers["seen"]
    assert first == second
    assert answers["runs"] == ["finished"]


def test_a_function_that_never_starts_its_run_is_called_twice_and_the_sweep_goes_on(server: Server) -> None:
    answers = server.client("never_starts.py")
    assert answers["calls"] == [1, 1, 2]
    assert sorted(answers["runs"]) == ["failed", "finished"]


def test_a_run_that_the_api_stops_is_killed_and_the_agent_goes_on(server: Server) -> None:
    answers = server.client("stopped.py")
    assert answers["returned"] == [2]
    assert answers["states"] == [[1, "killed"], [2, "finished"]]


def test_what_is_not_there_is_said_in_words(server: Server) -> None:
    answers = server.client("mistakes.py")
    assert "Could not find run" in answers["no run"]
    assert "Could not find sweep" in answers["no sweep"]
    assert "sweep nobody doesn't exist" in answers["agent"]
    assert "metric" in answers["config"]
    assert "key" in answers["key"]


def test_a_server_on_postgresql_is_no_other(
    postgresql: PostgreSQL, clean_env: dict[str, str], tmp_path: Path
) -> None:
    with serving(tmp_path, clean_env, postgresql.fresh()) as server:
        answers = server.client("grid.py")
    assert (answers["state"], answers["agents"], answers["best"]) == ("FINISHED", [3], 1)
    assert answers["scanned"] == [0, 1, 2]
    assert answers["nan"] == ["nan"] * 3
