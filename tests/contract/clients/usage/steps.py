"""Steps of ordinary usage: each is one feature of the client, checked by what it does; all run, in order.

A part prints what it found as JSON: by feature `works`, or the words in which it was refused.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKS = "works"
REFUSED = "clear error"
ABSENT = "not in this client"
LAST_OUTPUT_S = 20.0

Step = Callable[[], object]


@dataclass
class Part:
    """The steps of one part, in their order."""

    steps: list[tuple[str, Step]] = field(default_factory=list)

    def step(self, feature: str, *, needs: Callable[[], bool] | None = None) -> Callable[[Step], Step]:
        """Add a step that must work, in clients that have what it needs."""

        def add(check: Step) -> Step:
            self.steps.append((feature, lambda: _works(check, needs)))
            return check

        return add

    def refused(
        self, feature: str, *words: str, needs: Callable[[], bool] | None = None
    ) -> Callable[[Step], Step]:
        """Add a step that must fail at once with an error that has some of these words in it."""

        def add(attempt: Step) -> Step:
            self.steps.append((feature, lambda: _refused(attempt, words, needs)))
            return attempt

        return add

    def run(self) -> None:
        """Run all steps and print what was found."""
        print(json.dumps({feature: _found(step) for feature, step in self.steps}))


def wait_for(there: Callable[[], Any]) -> Any:
    """Return what is there, waiting for it for a while."""
    deadline = time.monotonic() + LAST_OUTPUT_S
    while not (found := there()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return found


def command(*words: str) -> str:
    """Run W&B's command line and return what it printed."""
    done = python(Path(sys.executable).with_name("wandb"), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def client(text: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script with this text in this environment."""
    script = Path("client.py")
    script.write_text(text)
    return python(script, environment=environment)


def python(
    script: Path, *words: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    line = [sys.executable, str(script), *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def _works(check: Step, needs: Callable[[], bool] | None) -> str:
    if needs is not None and not needs():
        return ABSENT
    check()
    return WORKS


def _refused(attempt: Step, words: tuple[str, ...], needs: Callable[[], bool] | None) -> str:
    if needs is not None and not needs():
        return ABSENT
    begin = time.monotonic()
    said = _error_of(attempt)
    assert any(some in said for some in words), said
    assert time.monotonic() - begin < LAST_OUTPUT_S, "it took too long to say so"
    return REFUSED


def _error_of(attempt: Step) -> str:
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  # whatever kind of error it is, its words count
        return f"{type(error).__name__}: {error}"
    return "it was not refused"


def _found(step: Step) -> object:
    try:
        return step()
    except Exception as error:  # noqa: BLE001  # one step must not keep the others from being checked
        traceback.print_exc(file=sys.stderr)
        return f"failed: {type(error).__name__}: {error}"
