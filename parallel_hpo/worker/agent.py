"""One lease: the real `wandb.agent` in a thread of its own, while `main` runs in the worker's main thread.

The agent calls the shim, which hands a `MainCall` to the main thread and waits for its end. It waits in
short steps: wandb's own stop is an exception thrown into this thread, which arrives only between bytecodes.
The shim never raises: a run's exit code tells the server how it ended, and the session counts failures for
all workers together.

This file also reads and writes the agent's file of parameters, and seeds a run's random numbers.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from parallel_hpo.core.errors import error_in_words
from parallel_hpo.core.messages import INDEX_KEY
from parallel_hpo.core.types import Parameters, RunId, SweepPath
from parallel_hpo.worker.hooks import HOOKS

STOP_STEP_S: Final = 0.1
"""Maximum delay of the agent's stop on its way to `main`, in seconds."""


@dataclass(slots=True)
class MainCall:
    """One call of `main`, which the agent waits for."""

    run_id: RunId
    parameters: Parameters
    attempt: int = 1
    index: int | None = None
    """The run's index in the sweep, if the server gives one."""
    seed: int | None = None
    by_agent: bool = True
    """An agent waits for its end, and then asks for the next run."""
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class AgentReturned:
    """`wandb.agent` has returned; `short`: it got fewer runs than its count."""

    short: bool
    error: str


class LeaseAgent:
    """The agent of one lease; `hand_over` takes each call of `main`, `stop_main` interrupts it."""

    def __init__(
        self,
        path: SweepPath,
        count: int | None,
        *,
        hand_over: Callable[[MainCall | AgentReturned], None],
        stop_main: Callable[[MainCall], None],
    ) -> None:
        self._path = path
        self._count = count
        self._hand_over = hand_over
        self._stop_main = stop_main
        self._started = 0

    def start(self) -> None:
        """Start the agent's thread, which hands over AgentReturned at its end."""
        threading.Thread(target=self._run, name="parallel_hpo-agent", daemon=True).start()

    def _run(self) -> None:
        error = ""
        path = self._path
        try:
            HOOKS.agent(
                path.sweep_id, self._shim, entity=path.entity, project=path.project, count=self._count
            )
        except BaseException as raised:  # noqa: BLE001 - the client may raise anything; it ends the lease
            error = error_in_words(raised)
        short = self._count is None or self._started < self._count
        self._hand_over(AgentReturned(short, error))

    def _shim(self) -> None:
        if self._count is not None and self._started >= self._count:
            threading.Event().wait()  # beyond the lease: never started, so the server requeues it
        self._started += 1
        main_call = MainCall(
            RunId(os.environ["WANDB_RUN_ID"]), read_parameters(os.environ), index=read_index(os.environ)
        )
        self._hand_over(main_call)
        while True:
            try:
                if main_call.over.wait(STOP_STEP_S):
                    return
            except Exception:  # noqa: BLE001 - the agent's stop is a bare Exception
                self._stop_main(main_call)


def read_parameters(environment: Any) -> Parameters:
    """Return the run's parameters from the file that the agent writes for wandb."""
    return {name: entry["value"] for name, entry in _entries(environment).items()}


def read_index(environment: Any) -> int | None:
    """Return the run's index in its sweep, which a parallel_hpo server adds to each parameter."""
    return next((entry.get(INDEX_KEY) for entry in _entries(environment).values()), None)


def _entries(environment: Any) -> dict[str, dict[str, Any]]:
    entries = yaml.safe_load(Path(environment["WANDB_SWEEP_PARAM_PATH"]).read_text())
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}


def write_parameters(path: Path, parameters: Parameters) -> None:
    """Write a run's parameters as the agent does, for `wandb.init`.

    Not as JSON: PyYAML reads JSON's number 1e-05 as text.
    """
    entries: dict[str, Any] = {"wandb_version": 1}
    entries |= {name: {"desc": None, "value": value} for name, value in parameters.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # All quoted: PyYAML would change a plain text with a control character.
    path.write_text(yaml.safe_dump(entries, default_style='"'))


SEED_VARIABLE: Final = "PARALLEL_HPO_SEED"


def seed_random(seed: int | None, *, parameter: str | None = None) -> None:
    """Seed `random` and a loaded numpy with the run's seed, and put it into the environment.

    None seeds randomly; otherwise forked workers would share their random numbers. With `parameter`, the
    seed also becomes a parameter of the run, by that name.
    """
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")  # numpy loads it on first use
    if numpy_random is not None:
        numpy_random.seed(seed)
    if seed is None:
        return
    os.environ[SEED_VARIABLE] = str(seed)
    if parameter is not None:
        file = Path(os.environ["WANDB_SWEEP_PARAM_PATH"])
        write_parameters(file, {**read_parameters(os.environ), parameter: seed})
