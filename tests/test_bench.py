from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).parents[1] / "scripts" / "bench"


def run_bench(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), *options],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_benchmark_measures_a_row_against_its_baseline(clean_env: dict[str, str]) -> None:
    done = run_bench(clean_env, "lines", "--repeat", "1", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["row"] == "lines"
    assert len(row["ours"]) == len(row["baseline"]) == 1
    assert row["ratio"] > 0


def test_the_benchmark_times_a_real_sweep(clean_env: dict[str, str]) -> None:
    done = run_bench(clean_env, "again", "--repeat", "1")
    assert "`again` from a worker's SIGKILL to its run inside main again" in done.stdout, done.stderr


def test_an_unknown_row_is_refused_with_the_known_ones(clean_env: dict[str, str]) -> None:
    done = run_bench(clean_env, "nothing")
    assert done.returncode == 2
    assert "gap" in done.stderr
