"""Whose a run's folder is, and which of them is the last one, by their names as the wandb client has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.analysis.table import read_summaries
from parallel_hpo.core.folders import folders_of, run_folders
from parallel_hpo.core.types import RunId
from parallel_hpo.session.server_calls import last_run_folder

SECOND = "20261224_180000"


def open_run(
    home: Path, run_id: str, *, second: str = SECOND, number: int = 0, offline: bool = False
) -> Path:
    """Make the folder of a run as the client does that opens it."""
    name = f"{'offline-' if offline else ''}run-{second}-{run_id}{f'-{number}' if number else ''}"
    (home / name / "files").mkdir(parents=True)
    (home / name / f"run-{run_id}.wandb").touch()
    return home / name


def test_attempts_of_one_second_are_of_one_run_in_their_order(tmp_path: Path) -> None:
    open_run(tmp_path, "other")
    made = [open_run(tmp_path, "abc", number=number) for number in range(12)]
    made.append(open_run(tmp_path, "abc", second="20261224_180001", offline=True))
    assert folders_of(tmp_path, "abc") == made
    assert [each.offline for each in sorted(run_folders(tmp_path)) if each.run_id == "abc"][-2:] == [
        False,
        True,
    ]


@pytest.mark.parametrize("run_id", ["abc-1", "my-run-2", "7"])
def test_an_id_may_end_in_a_number_itself(tmp_path: Path, run_id: str) -> None:
    first, second = open_run(tmp_path, run_id), open_run(tmp_path, run_id, number=1)
    assert folders_of(tmp_path, run_id) == [first, second]


def test_what_is_no_run_is_none_and_there_may_be_no_folder(tmp_path: Path) -> None:
    (tmp_path / "latest-run").symlink_to(open_run(tmp_path, "abc"))
    (tmp_path / "logs").mkdir()
    assert [each.run_id for each in run_folders(tmp_path)] == ["abc"]
    assert list(run_folders(tmp_path / "nowhere")) == []


def test_a_run_that_was_run_again_in_the_same_second_has_the_summary_and_the_folder_of_its_last_attempt(
    tmp_path: Path,
) -> None:
    home = tmp_path / "worker-0" / "wandb"
    open_run(home, "abc")
    last = open_run(home, "abc", number=1)
    (last / "files" / "wandb-summary.json").write_text('{"loss": 2, "_wandb": {}}')
    assert read_summaries(tmp_path) == {"abc": {"loss": 2}}
    assert last_run_folder(tmp_path, RunId("abc")) == last
