"""What watches a sweep costs it nothing that is not shown."""

from __future__ import annotations

import pytest

from tests.processes.conftest import RealSweep

SCRIPT = """
import sys, threading
from parallel_hpo import HPO
from parallel_hpo.core.notices import RunBegan

class Observer:
    shows_memory = sys.argv[1] == "shows"

    def __call__(self, notice):
        if isinstance(notice, RunBegan):
            names = [thread.name for thread in threading.enumerate()]
            print("looks" if "parallel_hpo-memory" in names else "does not look")

def main():
    import wandb
    wandb.init().finish()

HPO.from_dict({
    "kind": "wandb_sweeps", "count": 1, "workers": 1, "backend": "local", "devices": "cpu",
    "directory": sys.argv[2],
    "sweep_configuration": {"method": "random", "parameters": {"x": {"values": [1, 2]}}},
}).perform(main, observer=Observer())
"""


@pytest.mark.parametrize(("asked", "said"), [("shows", "looks"), ("hides", "does not look")])
def test_memory_is_looked_at_only_for_an_observer_that_shows_it(
    sweep: RealSweep, asked: str, said: str
) -> None:
    ended = sweep.start_command("-c", SCRIPT, asked, str(sweep.directory)).finish()
    assert ended.stdout.splitlines()[:1] == [said], ended.stderr
