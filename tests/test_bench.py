from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest

from scripts.benchmarks.queueing import Cost, Stream, simulate
from tests.commands import Done, start_python

BENCH: Final = Path(__file__).parents[1] / "scripts" / "bench"


@pytest.fixture
def run_bench(clean_env: dict[str, str], tmp_path: Path) -> Callable[..., Done]:
    """Runs the script with options; what it measures are new interpreters."""

    def run(*options: str) -> Done:
        command = start_python(str(BENCH), *options, folder=tmp_path, environment=clean_env)
        try:
            stdout, stderr = command.communicate(timeout=100)
        finally:
            command.kill()
        return Done([str(BENCH), *options], command.wait(), stdout, stderr)

    return run


def test_the_benchmark_measures_a_row_against_its_baseline(run_bench: Callable[..., Done]) -> None:
    done = run_bench("lines", "--repeat", "1", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["row"] == "lines"
    assert len(row["ours"]) == len(row["baseline"]) == 1
    assert row["ratio"] > 0


def test_the_benchmark_times_a_real_sweep(run_bench: Callable[..., Done]) -> None:
    done = run_bench("again", "--repeat", "1")
    assert "`again` from a worker's SIGKILL to its run inside main again" in done.stdout, done.stderr


def test_an_unknown_row_is_refused_with_the_known_ones(run_bench: Callable[..., Done]) -> None:
    done = run_bench("nothing")
    assert done.returncode == 2
    assert "gap" in done.stderr


@pytest.mark.parametrize(
    ("cost", "servers"),
    [(Cost(core_s=0.01, writes=0), 1), (Cost(locked_s=0.01), 4)],
    ids=["a server's core", "the database's lock, which servers share"],
)
def test_the_simulated_wait_is_that_of_queueing_theory(cost: Cost, servers: int) -> None:
    """M/D/1: requests at random times, all equally long, wait ρs / 2(1 - ρ) on average."""
    load, chance = 0.7, Random(1)
    stream = Stream("one", cost, every_s=servers * 0.01 / load, regular=False)
    waits = []
    for _ in range(12):
        answers_s = simulate([stream], agents=servers, servers=servers, seconds=60, chance=chance)
        waits.append(statistics.mean(answers_s["one"]) - 0.01)
    error = statistics.stdev(waits) / len(waits) ** 0.5
    expected = load * 0.01 / (2 * (1 - load))
    assert error < 0.1 * expected
    assert abs(statistics.mean(waits) - expected) < 3 * error
