"""The commands that change what a sweep does: by its server, or by a word to who runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.types import SweepPath
from parallel_hpo.records.folders import KnownSweep, find_sweep
from parallel_hpo.session.decide.events import DrainAsked
from parallel_hpo.session.signals import PipeCommand, post


@dataclass(frozen=True, slots=True)
class SweepCommand:
    """One of W&B's verbs: the state that it sets, and what follows from that."""

    state: str
    effect: str


VERBS: Final = {
    "pause": SweepCommand("PAUSED", "is paused: no new runs until it is resumed"),
    "resume": SweepCommand("RUNNING", "may go on"),
    "stop": SweepCommand("FINISHED", "is stopped: its running runs finish, and it ends"),
    "cancel": SweepCommand("CANCELED", "is cancelled: its running runs are ended now"),
}

ASK_LIMIT_S: Final = 20.0
"""Timeout in seconds of a question to a sweep's server, which the client alone would repeat for minutes."""
_ASK_STATE: Final = "import sys; from parallel_hpo.client.calls import state_of; print(state_of(sys.argv[1]))"


def set_state(directory: Path, sweep: str, name: str, *, as_json: bool) -> None:
    """Pause, resume, stop or cancel a sweep on its server.

    Raises:
        UsageError: there is no such sweep, or it is over (but it may be resumed).
        BackendError: its server does not answer, or refuses.
    """
    known = find_sweep(directory, sweep)
    path = known.facts["path"]
    if known.facts["backend"] == "local":
        _set_local_state(directory, path, name)
    else:
        _set_wandb_state(path, name)
    effect = VERBS[name].effect
    if name == "resume" and not known.supervised:
        effect += f", but nobody runs it: do so by `parallel-hpo run CONFIG … --resume {known.sweep_id}`"
    _answer(known, name, effect, as_json=as_json)


def tell(directory: Path, sweep: str, command: PipeCommand, *, as_json: bool) -> None:
    """Tell the supervisor that runs the sweep.

    Raises:
        UsageError: none runs it, or one for each share does, or many machines; or it has no worker of that
            number.
    """
    known = find_sweep(directory, sweep)
    if len(known.supervised) > 1:
        shares = ", ".join(folder.name for folder in known.supervised)
        raise UsageError(f"{known.sweep_id} runs in shares ({shares}): each has workers of its own")
    if not known.supervised:
        raise UsageError(f"{known.sweep_id} is not running, so it takes no command")
    if known.facts.get("machines"):
        raise UsageError(
            f"{known.sweep_id} is on {known.facts['machines']}: its workers are neither scaled nor drained"
            " from here. A machine leaves by SIGTERM to its `parallel-hpo join`, and comes by another one"
        )
    if isinstance(command, DrainAsked) and command.slot not in known.slots:
        slots = ", ".join(map(str, known.slots)) or "none yet"
        raise UsageError(f"{known.sweep_id} has no worker {command.slot}; it has {slots}")
    post(known.supervised[0], command)
    name = "drain" if isinstance(command, DrainAsked) else "scale"
    _answer(known, name, "its supervisor was told", as_json=as_json)


def _answer(known: KnownSweep, name: str, effect: str, *, as_json: bool) -> None:
    if as_json:
        done = {"sweep": known.sweep_id, "verb": name, "running": bool(known.supervised)}
        print_for_machines(json.dumps(done))
    else:
        print_for_people(f"{known.sweep_id}: {effect}")


def _set_local_state(directory: Path, path: str, name: str) -> None:
    at = SweepPath.parse(path)
    backend = LocalBackend(directory, os.environ)
    backend.open()
    try:
        backend.wait_until_up()
        over = backend.why_over(at)
        if over and name != "resume":
            raise UsageError(f"{at.sweep_id} is over: {over}; there is nothing to {name}")
        backend.set_state(at, VERBS[name].state)
    finally:
        backend.close()


def _set_wandb_state(path: str, name: str) -> None:
    command = [sys.executable, "-m", "wandb", "sweep", f"--{name}", path]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        why = ended.stderr.strip() or ended.stdout.strip()
        raise BackendError(f"wandb sweep --{name} {path} failed: {why}")


def ask_wandb_state(path: str) -> str:
    """Return the state of a sweep on the server that the client is logged in to, as that calls it.

    Raises:
        BackendError: the server does not answer in time, or refuses.
    """
    command = [sys.executable, "-c", _ASK_STATE, path]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"the server of {path} has not said within {ASK_LIMIT_S:g} s what state it is in"
        ) from None
    if ended.returncode:
        why = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
        raise BackendError(f"the server of {path} can't say what state it is in: {' '.join(why)}")
    return ended.stdout.split()[-1]
