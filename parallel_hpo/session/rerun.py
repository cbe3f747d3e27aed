"""Runs one run of a sweep again in the foreground, for `rerun`.

    ledger ─▶ parameters, `main` ─▶ the sweep's server ─▶ a process on the user's terminal

The new run has its own id and the same parameters, and belongs to no sweep.
"""

from __future__ import annotations

import os
import secrets
import signal
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Final

from parallel_hpo.client.base import Backend
from parallel_hpo.client.choose import choose_backend, make_backend
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.child_spec import ChildSetup, PickledMain, RunAgain
from parallel_hpo.core.errors import ExitCode, ParallelHPOError, TargetError, UsageError
from parallel_hpo.core.pool_messages import version_differences
from parallel_hpo.core.types import Program, RunId, SweepPath, Target
from parallel_hpo.pickling.main import from_fact, kept_in
from parallel_hpo.pickling.payload import from_text, install_main
from parallel_hpo.processes.environment import CLIENT_HIDDEN, CLIENT_TIMEOUTS, LEAKED
from parallel_hpo.records.folders import KnownSweep
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.sweep import VERSIONS

LABEL: Final = "rerun"
"""Label of the key that the embedded server issues for it."""
POOL_MAIN: Final = "pool_main"
"""The fact that has the `main` of a sweep's pool, as text."""
_ID_CHARS: Final = 8
FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal does not send to the run itself."""


@dataclass(frozen=True, slots=True)
class RerunRequest:
    """A run to run again."""

    known: KnownSweep
    run: RunRow
    debug: bool
    run_id: RunId
    """The new run's id."""


def new_run_id() -> RunId:
    """Return a run id in wandb's format."""
    letters = string.ascii_lowercase + string.digits
    return RunId("".join(secrets.choice(letters) for _ in range(_ID_CHARS)))


def run_again(again: RerunRequest, environment: Mapping[str, str]) -> int:
    """Run the run again to its end, and return its exit code; 128 + n if signal n has ended it.

    Raises:
        UsageError: the sweep's `main` is unknown, or can't be debugged.
        TargetError: its `main` can't be read here.
        BackendError: the sweep's server does not answer.
    """
    main = _main_of(again.known)
    if again.debug and isinstance(main, Program):
        raise UsageError(
            f"--pdb: {main} is a separate program, which can't be debugged from here:"
            " leave --pdb out, and let it call breakpoint()"
        )
    with _server_of(again.known, environment) as backend:
        order = RunAgain(
            surroundings=_surroundings(again, backend, environment),
            main=main,
            run_id=again.run_id,
            parameters={**again.run.parameters, **_named_seed(again)},
            keep_login=backend.keeps_login,
            debug=again.debug,
            seed=again.run.seed,
            hint=_versions_hint(again.known) if isinstance(main, PickledMain) else "",
        )
        return _perform(order)


def _named_seed(again: RerunRequest) -> dict[str, int]:
    """Return the run's seed under its name in `wandb.config`, if it has both."""
    name, seed = again.known.facts.get("seed_parameter"), again.run.seed
    return {} if name is None or seed is None else {name: seed}


def _main_of(known: KnownSweep) -> PickledMain | Target | Program:
    """Return what the sweep's runs call.

    Raises:
        UsageError: nothing of it was kept.
        TargetError: it can't be read here.
    """
    try:
        return _main_of_pool(known) if known.of_pool is not None else _main_of_folder(known)
    except ParallelHPOError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever unpickling raises
        text = f"{_versions_hint(known)}the main of {known.sweep_id} can't be read here: {error}"
        raise TargetError(text) from None


def _versions_hint(known: KnownSweep) -> str:
    """Return the beginning of an error that names the sweep's versions; '' if they are the same here."""
    made_with = version_differences(known.facts.get(VERSIONS), versions_here())
    return f"{known.sweep_id} was made with {made_with}: " if made_with else ""


def _main_of_folder(known: KnownSweep) -> PickledMain | Target | Program:
    """Return what the sweep's ledger names, or what was kept in its folder."""
    fact = known.facts.get("main")
    kept = kept_in(known.folder) if fact is None else from_fact(fact)
    if kept is None:
        why = known.facts.get("main_not_kept") or "it was run by a version that did not record it"
        raise UsageError(f"{known.sweep_id}: its `main` is not known any more: {why}")
    return kept


def _main_of_pool(known: KnownSweep) -> PickledMain | Target | Program:
    """Return what the sweep's pool has for machines that join."""
    text = known.facts.get(POOL_MAIN)
    if not text:
        raise UsageError(f"{known.sweep_id}: its pool has no main: each machine brought its own by `join`")
    return install_main(from_text(text), known.folder)


@contextmanager
def _server_of(known: KnownSweep, environment: Mapping[str, str]) -> Iterator[Backend]:
    chosen = choose_backend(BackendChoice(known.facts["backend"]), environment)
    backend = make_backend(chosen, directory=known.folder.parent, environment=environment)
    backend.open()
    try:
        if isinstance(backend, LocalBackend):
            backend.wait_until_up()
        yield backend
    finally:
        backend.close()


def _surroundings(again: RerunRequest, backend: Backend, environment: Mapping[str, str]) -> ChildSetup:
    facts, home = again.known.facts, again.known.folder / "reruns"
    home.mkdir(parents=True, exist_ok=True)
    path = SweepPath.parse(facts["path"])
    hidden = (*LEAKED, *(CLIENT_HIDDEN if backend.keeps_login else ()))
    own = {
        "WANDB_RUN_ID": again.run_id,
        "WANDB_ENTITY": path.entity,
        "WANDB_PROJECT": path.project,
        "WANDB_DIR": str(home),
        "WANDB_SWEEP_PARAM_PATH": str(home / f"config-{again.run_id}.yaml"),
        "PARALLEL_HPO_SWEEP_ID": path.sweep_id,
        "PARALLEL_HPO_WORKER": str(again.run.slot),
        "PARALLEL_HPO_WORKERS": "1",
        "PARALLEL_HPO_DEVICE": again.run.device or "cpu",
        "PARALLEL_HPO_RUN_ID": again.run_id,
        "PARALLEL_HPO_ATTEMPT": "1",
    }
    inherited = {name: value for name, value in environment.items() if name not in hidden}
    return ChildSetup(
        {**CLIENT_TIMEOUTS, **inherited, **backend.client_environment(LABEL), **own},
        tuple(facts.get("sys_path") or sys.path),
        facts.get("working_folder") or str(Path.cwd()),
    )


def _perform(order: RunAgain) -> int:
    """Start the process on the terminal, send it the run, and wait for its end."""
    reader, writer = os.pipe()
    try:
        command = [sys.executable, "-m", "parallel_hpo.worker.rerun", str(reader)]
        process = subprocess.Popen(command, pass_fds=(reader,))
    finally:
        os.close(reader)
    with _terminal_left_to(process):
        with suppress(BrokenPipeError), Connection(writer, readable=False) as pipe:
            pipe.send(order)
        code = process.wait()
    return code if code >= 0 else ExitCode.SIGNAL_BASE - code


@contextmanager
def _terminal_left_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C to the run, which gets it from the terminal, and forward other signals to it."""

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before: dict[signal.Signals, Any] = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    before |= {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
