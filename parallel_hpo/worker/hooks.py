"""Notices what the user's code does with wandb's public functions, in this process.

`wandb.init` is wrapped to know whether a run was opened, and where: the sweep's metric
is read from the summary that the client leaves in the run's folder. A run that another
process has opened, a child of `main` or a program, is known by that folder. `wandb.login`
keeps the key that the worker was given where the server takes no other: a user's real
key is then neither sent nor written anywhere. The client stops a run without an agent by
its own function `interrupt_main`, which is replaced: nothing is put into the run's settings,
as the client copies them and users read, copy and pickle them.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import wandb

from parallel_hpo.core.folders import folders_of
from parallel_hpo.core.types import DISABLED, NEVER_INITIALISED, RunId
from parallel_hpo.core.values import find_value
from parallel_hpo.worker.progress import ProgressTracker
from parallel_hpo.worker.tree import WandbCores

NO_AGENT: Final = (
    "wandb.agent() was called inside a run of a sweep: the runs that it draws would be counted by nobody."
    " Call the function itself, or start another sweep by a program of its own"
)
SUMMARY: Final = "wandb-summary.json"
"""The file in a run's folder in which the client leaves the run's summary."""
PROGRAM: Final = "WANDB_PROGRAM"


class WandbHooks:
    """What one process's user code has done since `begin`; there is one per worker, `HOOKS`."""

    def __init__(self) -> None:
        self.metric: str | None = None
        self.goal = "minimize"
        self.keep_login = False
        self.agent: Any = wandb.agent
        """wandb's own `agent`; user code finds one that refuses, once the wrappers are installed."""
        self.program = ""
        """The file that defines `main`, the run's program; '' where the client finds it by itself."""
        self.preempted = False
        self.torn_down = False
        """`wandb.teardown` was called: the agent's connection is gone with the run's."""
        self.unopened = NEVER_INITIALISED
        """Why the run was opened nowhere, where it was not."""
        self.asked_to_stop: Callable[[], bool] = _nobody_asks
        """Asks the server whether the run that is on was asked to stop, where it can be asked."""
        self.on_stop: Callable[[RunId], None] | None = None
        """Called with a run that its server asks to stop while no agent is there to hear it."""
        self.core = WandbCores()
        self.course = ProgressTracker()
        self._runs: list[Any] = []
        self._folders: list[Path] = []
        self._by_others = False
        self._place = Path()
        self._run_id = RunId("")
        self._process = os.getpid()
        self._before: frozenset[Path] = frozenset()
        self._installed = False

    def install(self) -> None:
        """Put the wrappers in place of wandb's functions, wherever wandb itself keeps them."""
        if not self._installed:
            self._installed = True
            _replace(
                (wandb.init, self._wrap_init(wandb.init)),
                (wandb.login, self._wrap_login(wandb.login)),
                (wandb.agent, self._wrap_agent(wandb.agent)),
                (wandb.teardown, self._wrap_teardown(wandb.teardown)),
            )
            with suppress(ImportError, AttributeError):  # another release: its own interrupts `main`
                interrupt = importlib.import_module("wandb.sdk.lib.interrupt").interrupt_main
                _replace((interrupt, self._wrap_interrupt(interrupt)))

    def begin(self, run_id: RunId, attempt: int) -> None:
        """Forget the last run; only a later attempt can find folders of its run, and pays for the look."""
        self.preempted, self.torn_down, self.unopened = False, False, NEVER_INITIALISED
        self._runs, self._folders, self._by_others = [], [], False
        self._place, self._run_id = Path(os.environ.get("WANDB_DIR", "."), "wandb"), run_id
        self._process = os.getpid()
        self._before = frozenset(self._made() if attempt > 1 else ())
        self.core.begin()
        self.course.begin(run_id)

    @property
    def initialised(self) -> bool:
        """Whether a run was opened, on the server or offline."""
        return bool(self._folders)

    @property
    def reached_server(self) -> bool:
        """Whether a run was opened on the server."""
        return any(not _is_offline(folder) for folder in self._folders)

    @property
    def offline_folders(self) -> tuple[str, ...]:
        """Folders of runs that were opened offline: what was written there has yet to be sent."""
        return tuple(str(folder.parent) for folder in self._folders if _is_offline(folder))

    @property
    def opened_by_others(self) -> bool:
        """Whether another process opened the run, once it was looked for."""
        return self._by_others

    @property
    def run_id(self) -> RunId:
        """The run that is on, or was last."""
        return self._run_id

    @property
    def left_open(self) -> bool:
        """Whether another process opened the run and did not finish it, which leaves a summary."""
        return self._by_others and not (self._folders[-1] / SUMMARY).exists()

    def look_for_others(self) -> None:
        """Where this process opened no run, see whether another one did: the last is the one that counts."""
        if not self.initialised:
            self._folders = [folder / "files" for folder in self._made() if folder not in self._before]
            self._by_others = self.initialised

    def _made(self) -> list[Path]:
        """Return the folders that clients have made for the run, by their age."""
        return folders_of(self._place, self._run_id)

    def finish_runs(self, exit_code: int) -> None:
        """Finish the runs that are open still, the last one first.

        What children of `main` have opened and not finished is open in the wandb-core that they share with
        this process. Taking that down finishes it, and leaves the agent without.
        """
        for run in reversed(self._runs):
            run.finish(exit_code=exit_code)
        if self.left_open:
            wandb.teardown(exit_code=exit_code)

    def _wrap_init(self, init: Any) -> Any:
        @functools.wraps(init)
        def noting_init(*args: Any, **kwargs: Any) -> Any:
            _name_program(self.program)
            with _no_wish_to_resume(beside=kwargs):
                run = init(*args, **kwargs)
            self._note(run)
            return run

        return noting_init

    def _wrap_interrupt(self, interrupt: Callable[[], None]) -> Callable[[], None]:
        """Return a function that reports the stop of this process's run instead of a plain Ctrl-C.

        An agent hears of stops first; a run that is run again has none. A fork of `main` keeps the
        client's own.
        """

        @functools.wraps(interrupt)
        def reporting_interrupt() -> None:
            if self.on_stop is None or os.getpid() != self._process:
                interrupt()
            else:
                self.on_stop(self._run_id)

        return reporting_interrupt

    def _wrap_login(self, login: Any) -> Any:
        @functools.wraps(login)
        def keeping_login(*args: Any, **kwargs: Any) -> Any:
            if self.keep_login:
                print("wandb.login: this sweep's own server and key are used", file=sys.stderr)
                return True
            return login(*args, **kwargs)

        return keeping_login

    def _wrap_agent(self, agent: Any) -> Any:
        self.agent = agent

        @functools.wraps(agent)
        def refusing_agent(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(NO_AGENT)

        return refusing_agent

    def _wrap_teardown(self, teardown: Any) -> Any:
        @functools.wraps(teardown)
        def noting_teardown(*args: Any, **kwargs: Any) -> Any:
            self.torn_down = True
            try:
                result = teardown(*args, **kwargs)
            except SystemExit:
                self.core.note_death()  # wandb client: it leaves with the exit code of a wandb-core that died
                raise
            self._runs = []  # they are finished by it, and could not be once more
            return result

        return noting_teardown

    def _note(self, run: Any) -> None:
        if getattr(run, "disabled", False):
            self.unopened = DISABLED
        elif run is not None:
            if not any(run is known for known in self._runs):
                self._runs.append(run)
                self._note_preempting(run)
                self.course.watch(run)
            self._folders.append(Path(run.dir))
            self.core.note()

    def _note_preempting(self, run: Any) -> None:
        """Wrap `run.mark_preempting`: W&B runs such a run again, and so does our supervisor."""
        mark = run.mark_preempting

        @functools.wraps(mark)
        def noting_mark(*args: Any, **kwargs: Any) -> Any:
            self.preempted = True
            return mark(*args, **kwargs)

        run.mark_preempting = noting_mark

    def read_value(self) -> float | None:
        """Return the sweep's metric from the summary of the run that was opened last, once it is closed."""
        summary = self.read_summary()
        if self.metric is None or summary is None:
            return None
        return find_value(summary, self.metric, self.goal)

    def read_summary(self) -> Mapping[str, Any] | None:
        """Return the summary of the run that was opened last, once it is closed; None where there is none."""
        if not self._folders:
            return None
        try:
            summary = json.loads((self._folders[-1] / SUMMARY).read_text())
        except (OSError, ValueError):
            return None  # user code took the folder away, or the client was killed before it wrote the file
        return summary if isinstance(summary, dict) else None


def _nobody_asks() -> bool:
    return False


@contextmanager
def _no_wish_to_resume(*, beside: Mapping[str, Any]) -> Iterator[None]:
    """Let `main` rewind a run that is run again, or fork: the client refuses that beside a wish to resume."""
    if beside.get("resume_from") is None and beside.get("fork_from") is None:
        yield
        return
    settings = wandb.setup().settings  # where the client has put what the environment said
    wish, settings.resume = settings.resume, None
    try:
        yield
    finally:
        settings.resume = wish


def _name_program(program: str) -> None:
    """Let the client know the user's file as the run's program: it takes what this process was started by."""
    if program and PROGRAM not in os.environ:
        settings: Any = wandb.setup().settings
        if settings.program != program:
            settings.program, settings.program_abspath, settings.program_relpath = program, None, None
            settings.update_from_system_environment()


def _is_offline(folder: Path) -> bool:
    """Whether a run's folder of files is one that only `wandb sync` sends (wandb client: by its name)."""
    return folder.parent.name.startswith("offline-")


def _replace(*pairs: tuple[Any, Any]) -> None:
    """Put the new wherever a module of wandb's names the old, for user code may import it from any."""
    by_id = {id(old): new for old, new in pairs}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "wandb":
            for key, value in list(vars(module).items()):
                if id(value) in by_id:
                    setattr(module, key, by_id[id(value)])


HOOKS = WandbHooks()
