"""Steps of ordinary usage: each checks one feature of the client; all run, in order.

A program: it runs the steps of the part that its argument names, and prints what it found as JSON: by
feature `works`, or the words in which it was refused.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

WORKS = "works"
LAST_OUTPUT_S = 20.0

Step = Callable[[], object]


class Part:
    """The steps of one part, in their order."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Step]] = []

    def step(self, feature: str, *, needs: str = "") -> Callable[[Step], Step]:
        """Add a step that must work in clients with the module that it needs."""

        def add(check: Step) -> Step:
            self.steps.append(
                (feature, lambda: "not in this client" if is_absent(needs) else check() or WORKS)
            )
            return check

        return add

    def finds(self, feature: str, look: Callable[[], object], expected: object) -> None:
        """Add a step that must return the expected value."""

        def compare() -> str:
            found = look()
            assert found == expected, f"{found!r}, not {expected!r}"
            return WORKS

        self.steps.append((feature, compare))

    def refuses(self, feature: str, attempt: Step, *words: str) -> None:
        """Add a step that must fail at once with an error that contains some of these words."""

        def fail() -> str:
            begin, said = time.monotonic(), "it was not refused"
            try:
                attempt()
            except Exception as error:  # noqa: BLE001  # only the message of the error counts
                said = f"{type(error).__name__}: {error}"
            assert any(some in said for some in words), said
            assert time.monotonic() - begin < LAST_OUTPUT_S, "it took too long to say so"
            return "clear error"

        self.steps.append((feature, fail))

    def run(self) -> None:
        """Run all steps, and print the results."""
        found: dict[str, object] = {}
        for feature, step in self.steps:
            try:
                found[feature] = step()
            except Exception as error:  # noqa: BLE001  # a failed step must not prevent the others
                traceback.print_exc(file=sys.stderr)
                found[feature] = f"failed: {type(error).__name__}: {error}"
        print(json.dumps(found))


def api() -> Any:
    """Return a new client of the API, whose types are too narrow for these steps."""
    return import_module("wandb").Api()


def is_absent(needs: str) -> bool:
    """Return whether the client lacks a module, or a member of one: `module:Class.member`."""
    module, _, path = needs.partition(":")
    try:
        found: Any = import_module(module or "wandb")
    except ImportError:
        return True
    for name in filter(None, path.split(".")):
        found = getattr(found, name, None)
    return found is None


def wait_for(there: Callable[[], Any]) -> Any:
    """Wait until a call returns a true value, and return it."""
    deadline = time.monotonic() + LAST_OUTPUT_S
    while not (found := there()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
    return found


def command(*words: str) -> str:
    """Run W&B's command line, and return what it printed."""
    code, printed = in_process(_perform, *words)
    assert code == 0, printed
    return printed


def in_process(act: Callable[..., None], *arguments: str) -> tuple[int, str]:
    """Call a function in a new process with the client imported; return its exit code and output."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["wandb.cli.cli"])
    output = Path(f"output-{time.monotonic_ns()}")
    process = processes.Process(
        target=_begin, args=(str(output.absolute()), dict(os.environ), act, arguments)
    )
    process.start()
    process.join()
    return process.exitcode or 0, output.read_text()


def _begin(
    output: str, environment: Mapping[str, str], act: Callable[..., None], arguments: tuple[str, ...]
) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    for number in (1, 2):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.pop("WANDB_SERVICE", None)  # its own client
    os.chdir(environment["HOME"])
    act(*arguments)


def _perform(*words: str) -> None:
    from wandb.cli.cli import cli
    from wandb.wandb_agent import Agent

    Agent.POLL_INTERVAL = 0.5  # type: ignore[assignment]  # stock 5 s
    Agent.KILL_DELAY = 2  # stock 30 s
    sys.argv = ["wandb", *words]
    cli()


if __name__ == "__main__":
    os.chdir(os.environ["HOME"])
    import_module(f"tests.contract.clients.usage.{sys.argv[1]}").part.run()
