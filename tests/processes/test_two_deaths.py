"""Deaths that follow one another."""

from __future__ import annotations

import os
import signal

import pytest

from tests.processes.conftest import RealSweep, outcomes

pytestmark = pytest.mark.thorough


def test_a_workers_death_after_the_fork_servers_leaves_the_sweep_server_alone(sweep: RealSweep) -> None:
    sweep.start("brief", count=14)
    sweep.wait_for(3)
    server = sweep.process_named("parallel_hpo.server")
    sweep.process_named("parallel_hpo.worker.forkserver").kill()
    number = len(sweep.entries())
    os.kill(sweep.wait_for(number + 1)[-1].pid, signal.SIGKILL)
    sweep.wait_for(number + 5)
    assert server.is_running()
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 14
