"""Two shares of one sweep, the first of which is killed and started again: the count stays exact."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import MAINS, RealSweep, comes, ending, grid, outcomes

Start = Callable[[str, str], RealSweep]


@pytest.fixture
def start(sweep: RealSweep) -> Iterator[Start]:
    """Starts a share of a sweep."""
    with ExitStack() as stack:

        def start(sweep_id: str, share: str) -> RealSweep:
            launch = stack.enter_context(ending(sweep.beside()))
            part = ("--sweep-id", sweep_id, "--share", share)
            return launch.run("run", "config.json", f"{MAINS}:held", *part)

        yield start


def test_a_share_killed_within_a_run_runs_the_rest_of_its_own_part_later(
    sweep: RealSweep, start: Start
) -> None:
    points = grid(x=list(range(6)))
    sweep_id = sweep.create(count=6, workers=1, sweep_configuration=points)
    killed = start(sweep_id, "1/2")
    assert comes(lambda: len(sweep.entries()) == 1)
    killed.signal(signal.SIGKILL)
    sweep.go()
    other = start(sweep_id, "2/2")
    other.unlike = "the first share's run is cut short"
    assert other.finish().code == ExitCode.COMPLETE
    assert start(sweep_id, "1/2").finish().code == ExitCode.COMPLETE

    def summary(share: str) -> Any:
        return json.loads((sweep.directory / sweep_id / f"share-{share}" / "summary.json").read_text())

    shares = [summary("1-of-2"), summary("2-of-2")]
    assert [outcomes(share) for share in shares] == [["finished"] * 3] * 2
    assert sorted(run["parameters"]["x"] for share in shares for run in share["runs"]) == list(range(6))
