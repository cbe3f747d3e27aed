"""Two shares of one sweep, the first of which is killed and started again: the count stays exact."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import MAINS, RealSweep, ending, grid, outcomes


class Shares:
    """Launches of the two shares of one grid of `points`, each with a count of 3."""

    def __init__(self, sweep: RealSweep, stack: ExitStack) -> None:
        self._sweep = sweep
        self._stack = stack

    def create(self, points: int) -> None:
        configuration = grid(x=list(range(points)))
        self.sweep_id = self._sweep.create(count=6, workers=1, sweep_configuration=configuration)

    def start(self, share: str) -> RealSweep:
        launch = self._stack.enter_context(ending(self._sweep.beside()))
        part = ("--sweep-id", self.sweep_id, "--share", share)
        return launch.run("run", "config.json", f"{MAINS}:held", *part)

    def outcomes(self, share: str) -> list[str]:
        return outcomes(self._summary(share))

    def points(self) -> list[int]:
        """Return the points of the grid that the shares' finished runs have had."""
        runs = [run for share in ("1-of-2", "2-of-2") for run in self._summary(share)["runs"]]
        return sorted(run["parameters"]["x"] for run in runs if run["outcome"] == "finished")

    def _summary(self, share: str) -> Any:
        path = self._sweep.directory / self.sweep_id / f"share-{share}" / "summary.json"
        return json.loads(path.read_text())


@pytest.fixture
def shares(sweep: RealSweep) -> Iterator[Shares]:
    with ExitStack() as stack:
        yield Shares(sweep, stack)


def test_a_share_killed_within_a_run_runs_the_rest_of_its_own_part_later(
    sweep: RealSweep, shares: Shares
) -> None:
    shares.create(points=6)
    killed = shares.start("1/2")
    assert sweep.comes(lambda: len(sweep.entries()) == 1)
    killed.signal(signal.SIGKILL)
    sweep.go()
    other = shares.start("2/2")
    other.unlike = "the first share's run is cut short"
    assert other.finish().code == ExitCode.COMPLETE
    assert shares.outcomes("2-of-2") == ["finished"] * 3

    assert shares.start("1/2").finish().code == ExitCode.COMPLETE
    assert shares.outcomes("1-of-2") == ["finished"] * 3
    assert shares.points() == list(range(6))


def test_a_share_waits_for_a_run_that_a_killed_one_had_not_begun_until_that_one_is_started_again(
    sweep: RealSweep, shares: Shares
) -> None:
    """1. A share's session is halted: what its worker is issued next, it does not begin. 2. It is killed.
    3. Its sibling wants 3 of the grid's 4 points, gets 2 and waits. 4. The killed share is started again.
    """
    shares.create(points=4)
    halted = shares.start("1/2")
    assert sweep.comes(lambda: len(sweep.entries()) == 1)
    halted.signal(signal.SIGSTOP)
    sweep.go()

    def states() -> list[str]:
        return sorted(run.state for run in sweep.runs_on_the_server().values())

    assert sweep.comes(lambda: states() == ["finished", "pending"])
    halted.signal(signal.SIGKILL)
    waiting = shares.start("2/2")
    assert sweep.comes(lambda: states().count("finished") == 3)

    again = shares.start("1/2")
    assert again.finish().code == ExitCode.COMPLETE
    assert waiting.finish().code == ExitCode.COMPLETE
    assert shares.points() == list(range(4))
