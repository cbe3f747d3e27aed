"""Short versions of what `scripts/chaos` does at length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts.chaos_tests.machines import hit_machines
from tests.namespaces import why_no_network
from tests.power import why_no_disk

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(400)]

CHAOS: Final = Path(__file__).parents[2] / "scripts" / "chaos"
DEADLINE_S: Final = 380.0
"""Each takes half a minute; on a busy machine, kills by the clock cost it more work."""


def run_chaos(folder: Path, env: dict[str, str], *arguments: str) -> str:
    """Return the script's output; it must have found no fault."""
    process = subprocess.Popen(
        [sys.executable, str(CHAOS), "--workers", "2", *arguments],
        env=env | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=DEADLINE_S)
    except BaseException:
        process.terminate()  # it then ends its sweep
        process.communicate()
        raise
    assert process.returncode == 0, said
    return said


def skip_for(reason: str | None) -> None:
    if reason is not None:
        pytest.skip(reason)


def test_random_kills_of_workers_and_servers_leave_the_count_and_the_histories_exact(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    assert "worker killed" in run_chaos(tmp_path, clean_env, "--runs", "25", "--seed", "7")


def test_sessions_killed_at_random_moments_leave_no_process_and_resume_exactly(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    said = run_chaos(tmp_path, clean_env, "--kill-supervisor", "--moments", "3", "--runs", "6", "--seed", "7")
    assert "3 supervisors killed" in said


def test_power_cuts_at_random_moments_and_after_the_end_leave_ledger_and_server_exact(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    skip_for(why_no_disk())
    said = run_chaos(tmp_path, clean_env, "--power", "--moments", "2", "--runs", "6", "--seed", "7")
    assert " power cuts" in said


def test_a_disk_that_is_full_now_and_then_pauses_the_sweep_and_keeps_it_exact(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    skip_for(why_no_disk())
    assert "; 0 × disk filled" not in run_chaos(
        tmp_path, clean_env, "--full-disk", "--runs", "8", "--seed", "7"
    )


def test_kills_and_cuts_on_two_machines_keep_the_count_exact_and_no_attempts_overlap(tmp_path: Path) -> None:
    skip_for(why_no_network())
    assert hit_machines(tmp_path, machines=2, runs=10, seed=5, pace=0.3, most=20) == []
