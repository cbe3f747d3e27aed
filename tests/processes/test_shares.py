"""Shares of one sweep whose sibling is slow, or killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import DEADLINE_S, MAINS, RealSweep, outcomes

GRID: Final = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2, 3]}}}


class Shares:
    """Launches of shares of one sweep."""

    def __init__(self, sweep: RealSweep) -> None:
        self._sweep = sweep
        self.sweep_id = sweep.create(count=6, workers=1, sweep_configuration=GRID)
        self._started: list[RealSweep] = []

    def start(self, share: str) -> RealSweep:
        other = self._sweep.beside()
        self._started.append(other)
        part = ("--sweep-id", self.sweep_id, "--share", share)
        return other.start_command("-m", "parallel_hpo", "run", "config.json", f"{MAINS}:held", *part)

    def summary(self, share: str) -> Any:
        return json.loads((self._sweep.directory / self.sweep_id / share / "summary.json").read_text())

    def kill_all(self) -> None:
        for other in self._started:
            if other.process is not None and other.process.stdout is not None:
                other.process.kill()
                if not other.process.stdout.closed:
                    other.process.communicate()


@pytest.fixture
def shares(sweep: RealSweep) -> Iterator[Shares]:
    made = Shares(sweep)
    yield made
    made.kill_all()


def states(sweep: RealSweep) -> list[str]:
    return sorted(run.state for run in sweep.runs_on_the_server().values())


def test_a_share_waits_for_a_slow_sibling_and_goes_on_with_what_a_killed_one_left(
    sweep: RealSweep, shares: Shares
) -> None:
    """1. A share's supervisor is halted: what its worker is issued next, it does not start.
    2. Its sibling performs its own run, and waits. 3. The halted one is killed: the sibling takes its run.
    4. The killed share goes on with the run that it had begun, and with no other.
    """
    halted = shares.start("1/2")
    assert sweep.comes(lambda: len(sweep.entries()) == 1, within_s=DEADLINE_S)
    halted.signal(signal.SIGSTOP)
    (sweep.folder / "go").touch()
    assert sweep.comes(lambda: states(sweep) == ["finished", "pending"], within_s=DEADLINE_S)
    (left,) = (name for name, run in sweep.runs_on_the_server().items() if run.state == "pending")

    waiting = shares.start("2/2")
    assert f"run {left}: waiting for share 1/2" in waiting.read_until("no more runs, except")
    assert left not in {entry.run_id for entry in sweep.entries()}

    halted.signal(signal.SIGKILL)
    assert f"before it started run {left}" in waiting.read_until("share 1/2 was killed")
    assert waiting.finish().code == ExitCode.COMPLETE
    taken = shares.summary("share-2-of-2")
    assert outcomes(taken) == ["finished", "finished"]
    assert taken["runs"][1]["run_id"] == left

    assert shares.start("1/2").finish().code == ExitCode.COMPLETE
    assert outcomes(shares.summary("share-1-of-2")) == ["finished"]
