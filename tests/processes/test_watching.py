"""What watches a sweep costs it nothing that is not shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, threading
from parallel_hpo import HPO
from parallel_hpo.notices import RunBegan

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
    tmp_path: Path, clean_env: dict[str, str], asked: str, said: str
) -> None:
    command = [sys.executable, "-c", SCRIPT, asked, str(tmp_path)]
    ended = subprocess.run(command, env=clean_env, capture_output=True, text=True, timeout=100, check=False)
    assert ended.stdout.splitlines()[:1] == [said], ended.stderr
