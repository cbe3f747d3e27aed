"""`parallel-hpo pause`, `resume`, `stop`, `cancel`, `drain` and `scale`: change a running sweep.

The first four set the sweep's state on its server; the others send a command to its supervisor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of, parse_slot
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.types import Slot, SweepPath
from parallel_hpo.count.policy import MAX_WORKERS

if TYPE_CHECKING:
    from parallel_hpo.records.folders import KnownSweep
    from parallel_hpo.session.signals import PipeCommand


@dataclass(frozen=True, slots=True)
class SweepCommand:
    """One of W&B's commands: the state that it sets, and its effect in words."""

    state: str
    effect: str


SWEEP_COMMANDS: Final = {
    "pause": SweepCommand("PAUSED", "is paused: no new runs until it is resumed"),
    "resume": SweepCommand("RUNNING", "is resumed"),
    "stop": SweepCommand("FINISHED", "is stopped: its running runs finish, and it ends"),
    "cancel": SweepCommand("CANCELED", "is cancelled: its running runs are ended now"),
}

ASK_LIMIT_S: Final = 20.0
"""Timeout of a question to a sweep's server, in seconds; the client alone would retry for minutes."""
_ASK_STATE: Final = "import sys; from parallel_hpo.client.calls import state_of; print(state_of(sys.argv[1]))"


def pause(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Pause a sweep: no new runs for now."""
    _set_state("pause", sweep, directory, as_json)


def resume(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Resume a paused sweep.

    For a sweep that ended early, use `run --resume`.
    """
    _set_state("resume", sweep, directory, as_json)


def stop(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Stop a sweep: its running runs finish, then it ends."""
    _set_state("stop", sweep, directory, as_json)


def cancel(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Cancel a sweep: its running runs are ended now."""
    _set_state("cancel", sweep, directory, as_json)


def drain(
    sweep: Sweep,
    worker: Annotated[int, typer.Option(help="Slot of the worker, as 0 or w0.", parser=parse_slot)],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Remove one worker of a running sweep, after its current run."""
    from parallel_hpo.session.decide.events import DrainAsked

    _send(directory_of(directory), sweep, DrainAsked(Slot(worker)), as_json=as_json)


def scale(
    sweep: Sweep,
    workers: Annotated[int, typer.Argument(help="The new number of workers.", min=1, max=MAX_WORKERS)],
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Change the number of workers of a running sweep."""
    from parallel_hpo.session.decide.events import ScaleAsked

    _send(directory_of(directory), sweep, ScaleAsked(workers), as_json=as_json)


def _set_state(command: str, sweep: str, directory: Path | None, as_json: bool) -> None:
    """Pause, resume, stop or cancel a sweep on its server."""
    from parallel_hpo.records.folders import find_sweep

    known = find_sweep(directory_of(directory), sweep)
    path = known.facts["path"]
    if known.facts["backend"] == "local":
        _set_local_state(directory_of(directory), path, command)
    else:
        _set_wandb_state(path, command)
    effect = SWEEP_COMMANDS[command].effect
    if command == "resume" and not known.supervised:
        effect += f", but not running: run it by `parallel-hpo run CONFIG … --resume {known.sweep_id}`"
    _confirm(known, command, effect, as_json=as_json)


def _send(directory: Path, sweep: str, command: PipeCommand, *, as_json: bool) -> None:
    """Send a command to the sweep's supervisor.

    Raises:
        UsageError: the sweep doesn't run, or runs in several shares or on many machines; or it has no worker
            of that number.
    """
    from parallel_hpo.records.folders import find_sweep
    from parallel_hpo.session.decide.events import DrainAsked
    from parallel_hpo.session.signals import post

    known = find_sweep(directory, sweep)
    if len(known.supervised) > 1:
        shares = ", ".join(folder.name for folder in known.supervised)
        raise UsageError(f"{known.sweep_id} runs in shares ({shares}), which can't be drained or scaled")
    if not known.supervised:
        raise UsageError(f"{known.sweep_id} is not running, so it takes no command")
    if known.facts.get("machines"):
        raise UsageError(
            f"{known.sweep_id} runs on {known.facts['machines']}: its workers can't be drained or scaled"
            " from here. To remove a machine, send SIGTERM to its `parallel-hpo join`; to add one, start it"
        )
    if isinstance(command, DrainAsked) and command.slot not in known.slots:
        slots = ", ".join(map(str, known.slots)) or "none yet"
        raise UsageError(f"{known.sweep_id} has no worker {command.slot}; it has {slots}")
    post(known.supervised[0], command)
    name = "drain" if isinstance(command, DrainAsked) else "scale"
    _confirm(known, name, f"sent {name} to its supervisor", as_json=as_json)


def _confirm(known: KnownSweep, command: str, effect: str, *, as_json: bool) -> None:
    if as_json:
        done = {"sweep": known.sweep_id, "verb": command, "running": bool(known.supervised)}
        print_for_machines(json.dumps(done))
    else:
        print_for_people(f"{known.sweep_id}: {effect}")


def _set_local_state(directory: Path, path: str, command: str) -> None:
    """Set the state on the embedded server; UsageError for a sweep that has ended."""
    from parallel_hpo.client.own_servers import LocalBackend

    sweep_path = SweepPath.parse(path)
    backend = LocalBackend(directory, os.environ)
    backend.open()
    try:
        backend.wait_until_up()
        over = backend.end_reason(sweep_path)
        if over and command != "resume":
            raise UsageError(f"{sweep_path.sweep_id} has ended: {over}; there is nothing to {command}")
        backend.set_state(sweep_path, SWEEP_COMMANDS[command].state)
    finally:
        backend.close()


def _set_wandb_state(path: str, command: str) -> None:
    words = [sys.executable, "-m", "wandb", "sweep", f"--{command}", path]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        why = ended.stderr.strip() or ended.stdout.strip()
        raise BackendError(f"wandb sweep --{command} {path} failed: {why}")


def ask_wandb_state(path: str) -> str:
    """Return the state of a sweep on the server that the client is logged in to, in that server's words.

    Raises:
        BackendError: the server doesn't answer in time, or refuses.
    """
    words = [sys.executable, "-c", _ASK_STATE, path]
    try:
        ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ASK_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise BackendError(
            f"the server of {path} did not report its state within {ASK_LIMIT_S:g} s; try again later"
        ) from None
    if ended.returncode:
        why = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:]
        raise BackendError(f"the server of {path} can't report its state: {' '.join(why)}")
    return ended.stdout.split()[-1]
