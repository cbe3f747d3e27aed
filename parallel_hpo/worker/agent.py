"""One lease: the real `wandb.agent` in a thread of its own, `main` in the worker's main thread.

The agent calls the shim; the shim hands a main_call to the main thread and waits for
it in short steps, since wandb's own stop is an exception that is thrown into this
thread and arrives only between bytecodes. The shim never raises: how a run ended is
told to the server by the run's own exit code, and failures are counted by the
supervisor for all workers together, not by each agent for itself.

The streams of random numbers that a run begins with, and its own seed where the sweep has one.
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
"""At most so much later does a stop of the agent's reach `main`."""


@dataclass(slots=True)
class MainCall:
    """One call of `main` that the agent waits for."""

    run_id: RunId
    parameters: Parameters
    attempt: int = 1
    place: int | None = None
    """In the sweep, where its server has said it."""
    seed: int | None = None
    by_agent: bool = True
    """An agent waits for its end, and will ask for the next one."""
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class AgentReturned:
    """`wandb.agent` is back; `short` where it was given fewer runs than it was asked for."""

    short: bool
    error: str


class LeaseAgent:
    """The agent of one lease; `hand_over` takes each main_call, `stop_main` interrupts the one that runs."""

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
        """Start the agent's thread; AgentReturned is handed over at its end."""
        threading.Thread(target=self._run, name="parallel_hpo-agent", daemon=True).start()

    def _run(self) -> None:
        error = ""
        path = self._path
        try:
            HOOKS.agent(
                path.sweep_id, self._shim, entity=path.entity, project=path.project, count=self._count
            )
        except BaseException as raised:  # noqa: BLE001 - the client raises what it likes; all of it ends the lease
            error = error_in_words(raised)
        short = self._count is None or self._started < self._count
        self._hand_over(AgentReturned(short, error))

    def _shim(self) -> None:
        if self._count is not None and self._started >= self._count:
            threading.Event().wait()  # one more than leased: never started, so the server takes it back
        self._started += 1
        main_call = MainCall(
            RunId(os.environ["WANDB_RUN_ID"]), read_parameters(os.environ), place=read_place(os.environ)
        )
        self._hand_over(main_call)
        while True:
            try:
                if main_call.over.wait(STOP_STEP_S):
                    return
            except Exception:  # noqa: BLE001 - the agent's stop is a bare Exception
                self._stop_main(main_call)


def read_parameters(environment: Any) -> Parameters:
    """Return the parameters that the agent was given for its run, from the file that it keeps for wandb."""
    return {name: entry["value"] for name, entry in _entries(environment).items()}


def read_place(environment: Any) -> int | None:
    """Return the run's place in its sweep, as a server of ours has said it beside each of the parameters."""
    return next((entry.get(INDEX_KEY) for entry in _entries(environment).values()), None)


def _entries(environment: Any) -> dict[str, dict[str, Any]]:
    entries = yaml.safe_load(Path(environment["WANDB_SWEEP_PARAM_PATH"]).read_text())
    return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}


def write_parameters(path: Path, parameters: Parameters) -> None:
    """Write a run's parameters as the agent does, so that `wandb.init` finds them.

    Not as JSON: where JSON has the number 1e-05, PyYAML reads a text.
    """
    entries: dict[str, Any] = {"wandb_version": 1}
    entries |= {name: {"desc": None, "value": value} for name, value in parameters.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Quoted throughout: a plain text with a control character would be read as another.
    path.write_text(yaml.safe_dump(entries, default_style='"'))


SEED_VARIABLE: Final = "PARALLEL_HPO_SEED"


def begin_streams(seed: int | None, *, parameter: str | None = None) -> None:
    """Let `random` and a loaded numpy begin by the run's seed, which stands in the environment then.

    None: by chance; a forked worker would else repeat its sibling's. Under the name `parameter` the
    seed is also one of the run's parameters.
    """
    random.seed(seed)
    numpy_random = sys.modules.get("numpy.random")  # numpy loads it when it is first asked for
    if numpy_random is not None:
        numpy_random.seed(seed)
    if seed is None:
        return
    os.environ[SEED_VARIABLE] = str(seed)
    if parameter is not None:
        file = Path(os.environ["WANDB_SWEEP_PARAM_PATH"])
        write_parameters(file, {**read_parameters(os.environ), parameter: seed})
