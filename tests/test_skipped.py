from __future__ import annotations

from tests.conftest import summarize_missing
from tests.slurm import PACKAGES

CHROMIUM = "Skipped: no Chromium is installed (Debian: apt-get install chromium)"
SLURM = f"Skipped: Slurm is not installed: no sbatch (Debian: apt-get install {PACKAGES})"


def test_one_line_names_what_skipped_tests_need_and_the_command_that_installs_it() -> None:
    assert summarize_missing([SLURM, CHROMIUM, CHROMIUM, "Skipped: Linux alone"]) == (
        "3 skipped: no Chromium is installed (2); Slurm is not installed: no sbatch (1)."
        " To run them (Debian): apt-get install slurm-client slurmctld slurmd chromium"
    )


def test_tests_that_no_program_would_let_run_are_not_named() -> None:
    assert summarize_missing(["Skipped: Linux alone"]) == ""
