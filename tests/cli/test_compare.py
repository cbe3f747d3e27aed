"""`parallel-hpo compare` with folders of ended sweeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.folders import DONE, leave_sweep

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sweeps(tmp_path: Path) -> Path:
    """Two sweeps with one metric, the second in shares; one with another; and another folder."""
    leave_sweep(tmp_path / "fast", [0.5, 0.25, None])
    leave_sweep(tmp_path / "slow" / "share-1-of-2", [0.75, 0.5], facts=DONE | {"name": "by two"})
    leave_sweep(tmp_path / "slow" / "share-2-of-2", [None, 0.375], first=2)
    leave_sweep(tmp_path / "other", [0.9], facts=DONE | {"metric": "acc", "goal": "maximize"})
    return tmp_path


@pytest.fixture
def compare(command: Command, sweeps: Path) -> Command:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return command("compare", *words, "--directory", str(sweeps))

    return call


def test_sweeps_are_compared_in_order_with_rank_and_cost(compare: Command) -> None:
    told = json.loads(compare("team/digits/slow", "fast", "--json").stdout)
    slow, fast = told["sweeps"]
    assert (told["reach"], told["not_ranked"]) == (0.375, None)
    assert (slow["sweep"], slow["name"], slow["project"], slow["rank"]) == ("slow", "by two", "digits", 2)
    assert (slow["count"], slow["started"], slow["finished"], slow["runs"]) == (4, 4, 3, 4)
    assert slow["run_hours"] == slow["wall_hours"] == pytest.approx(8 / 3600)
    assert slow["reached"] | {"run_hours": 0, "wall_hours": 0} == {
        "run_id": "share-2-of-2-3",
        "value": 0.375,
        "runs": 4,
        "run_hours": 0,
        "wall_hours": 0,
    }
    assert (fast["rank"], fast["reached"]["runs"]) == (1, 2)
    assert fast["best"] == {
        "run_id": "fast-1",
        "value": 0.25,
        "parameters": {"optim": {"lr": 0.1}, "layers": [1]},
    }


def test_the_table_has_a_column_for_each_sweep_and_the_parameters_of_the_best_ones(compare: Command) -> None:
    done = compare("fast", "slow", "--reach", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[: line.index("  ")]: line.split()[-2:] for line in done.stdout.splitlines()[1:] if line}
    assert done.stdout.splitlines()[0].split() == ["fast", "slow"]
    assert rows["best"] == ["0.25", "0.375"]
    assert rows["best run"] == ["fast-1", "share-2-of-2-3"]
    assert rows["runs to reach 0.5"] == ["1", "2"]
    assert rows["parameters.layers"] == ["[1]", "[3]"]


def test_a_sweep_with_another_goal_is_shown_unranked(compare: Command) -> None:
    done = compare("fast", "other")
    assert done.returncode == 0
    assert done.stderr == (
        "not ranked: the sweeps don't have the same metric and goal: fast minimizes loss,"
        " other maximizes acc\n"
    )
    assert "rank" not in done.stdout
    told = json.loads(compare("fast", "other", "--json").stdout)
    assert [each["best"]["value"] for each in told["sweeps"]] == [0.25, 0.9]
    assert "is no value for all: the sweeps don't have" in compare("fast", "other", "--reach", "1").stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["fast"], "compare needs two or more sweeps"),
        (["fast", "team/digits/fast"], "compare needs two or more sweeps; fast was named more than once"),
        (["fast", "nothing"], "there is no sweep nothing in "),
        (["fast", "slow", "--reach", "inf"], "--reach inf: allowed: a finite number"),
    ],
)
def test_incomparable_sweeps_are_an_error(compare: Command, words: list[str], error: str) -> None:
    done = compare(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
