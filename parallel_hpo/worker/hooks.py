"""Hooks into wandb's public functions: what the user's code does with wandb in this process.

`wandb.init` is wrapped to see whether a run was opened, and where: the sweep's metric is read from the
summary in the run's folder. That folder also shows a run that another process opened (a child of `main`, a
program). `wandb.login` keeps the worker's key if the server takes no other, so a user's real key is never
sent or written. The client stops a run without an agent by its function `interrupt_main`, which is replaced.
Nothing is put into the run's settings, as the client copies them, and users read, copy and pickle them.
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
    "wandb.agent() was called inside a run of a sweep: nothing would count the runs that it gets."
    " Call the function itself, or start another sweep in a separate program"
)
SUMMARY: Final = "wandb-summary.json"
"""File of the run's summary in its folder, written by the client."""
PROGRAM: Final = "WANDB_PROGRAM"


class WandbHooks:
    """What user code has done since `begin`; one per worker, `HOOKS`."""

    def __init__(self) -> None:
        self.metric: str | None = None
        self.goal = "minimize"
        self.keep_login = False
        self.agent: Any = wandb.agent
        """wandb's own `agent`; once installed, user code finds one that refuses."""
        self.program = ""
        """The file that defines `main`, the run's program; '' if the client finds it itself."""
        self.preempted = False
        self.torn_down = False
        """`wandb.teardown` was called, which also ends the agent's connection."""
        self.unopened = NEVER_INITIALISED
        """Why no run was opened, if none was."""
        self.asked_to_stop: Callable[[], bool] = _was_not_asked
        """Asks the server whether it stopped the active run, if it can be asked."""
        self.on_stop: Callable[[RunId], None] | None = None
        """Called with a run that its server stops while there is no agent."""
        self.core = WandbCores()
        self.progress = ProgressTracker()
        self._runs: list[Any] = []
        self._folders: list[Path] = []
        self._by_others = False
        self._place = Path()
        self._run_id = RunId("")
        self._process = os.getpid()
        self._before: frozenset[Path] = frozenset()
        self._installed = False

    def install(self) -> None:
        """Replace wandb's functions by the wrappers, in all of wandb's modules."""
        if not self._installed:
            self._installed = True
            _replace(
                (wandb.init, self._wrap_init(wandb.init)),
                (wandb.login, self._wrap_login(wandb.login)),
                (wandb.agent, self._wrap_agent(wandb.agent)),
                (wandb.teardown, self._wrap_teardown(wandb.teardown)),
            )
            with suppress(ImportError, AttributeError):  # another release: its own function interrupts `main`
                interrupt = importlib.import_module("wandb.sdk.lib.interrupt").interrupt_main
                _replace((interrupt, self._wrap_interrupt(interrupt)))

    def begin(self, run_id: RunId, attempt: int) -> None:
        """Reset for a new run; only a later attempt may have older folders, and looks for them."""
        self.preempted, self.torn_down, self.unopened = False, False, NEVER_INITIALISED
        self._runs, self._folders, self._by_others = [], [], False
        self._place, self._run_id = Path(os.environ.get("WANDB_DIR", "."), "wandb"), run_id
        self._process = os.getpid()
        self._before = frozenset(self._made() if attempt > 1 else ())
        self.core.begin()
        self.progress.begin(run_id)

    @property
    def initialised(self) -> bool:
        """Return whether a run was opened, online or offline."""
        return bool(self._folders)

    @property
    def reached_server(self) -> bool:
        """Return whether a run was opened online."""
        return any(not _is_offline(folder) for folder in self._folders)

    @property
    def offline_folders(self) -> tuple[str, ...]:
        """Return folders of offline runs, whose data is not yet sent."""
        return tuple(str(folder.parent) for folder in self._folders if _is_offline(folder))

    @property
    def opened_by_others(self) -> bool:
        """Return whether another process opened the run, by `look_for_others`."""
        return self._by_others

    @property
    def run_id(self) -> RunId:
        """Return the active run, or the last one."""
        return self._run_id

    @property
    def left_open(self) -> bool:
        """Return whether another process opened the run and did not finish it (then there is no summary)."""
        return self._by_others and not (self._folders[-1] / SUMMARY).exists()

    def look_for_others(self) -> None:
        """If this process opened no run, look for one that another process opened; the last one counts."""
        if not self.initialised:
            self._folders = [folder / "files" for folder in self._made() if folder not in self._before]
            self._by_others = self.initialised

    def _made(self) -> list[Path]:
        """Return the folders that clients made for the run, oldest first."""
        return folders_of(self._place, self._run_id)

    def finish_runs(self, exit_code: int) -> None:
        """Finish the open runs, the last one first.

        Runs that children of `main` left open are open in the wandb-core that they share with this process.
        Teardown finishes them, but also ends the agent's connection.
        """
        self._finish_own_runs(exit_code)
        if self.left_open:
            wandb.teardown(exit_code=exit_code)

    def _finish_own_runs(self, exit_code: int) -> None:
        while self._runs:
            self._runs.pop().finish(exit_code=exit_code)

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
        """Return a function that reports the stop of this process's run, instead of raising Ctrl-C.

        It serves runs without an agent (further attempts); an agent receives stops first. A fork of `main`
        keeps the client's function.
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
                print("wandb.login: using this sweep's own server and key", file=sys.stderr)
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
        """Return a teardown that finishes this process's runs first, which the client leaves to wandb-core.

        A wandb-core that is still busy with a run's records may miss the request to end, which is followed
        by the end of its connection; the client then waits for ever (wandb 0.31.0: 5 of 84 times).
        """

        @functools.wraps(teardown)
        def noting_teardown(exit_code: int | None = None) -> Any:
            self.torn_down = True
            try:
                if os.getpid() == self._process:
                    self._finish_own_runs(exit_code or 0)
                result = teardown(exit_code=exit_code)
            except SystemExit:
                self.core.note_death()  # wandb client: it leaves with the exit code of a wandb-core that died
                raise
            return result

        return noting_teardown

    def _note(self, run: Any) -> None:
        if getattr(run, "disabled", False):
            self.unopened = DISABLED
        elif run is not None:
            if not any(run is known for known in self._runs):
                self._runs.append(run)
                self._note_preempting(run)
                self.progress.watch(run)
            self._folders.append(Path(run.dir))
            self.core.note()

    def _note_preempting(self, run: Any) -> None:
        """Wrap `run.mark_preempting`: like W&B, the session requeues such a run."""
        mark = run.mark_preempting

        @functools.wraps(mark)
        def noting_mark(*args: Any, **kwargs: Any) -> Any:
            self.preempted = True
            return mark(*args, **kwargs)

        run.mark_preempting = noting_mark

    def read_value(self) -> float | None:
        """Return the sweep's metric from the summary of the last opened run, once it is closed."""
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
            return None  # user code removed the folder, or the client was killed first
        return summary if isinstance(summary, dict) else None


def _was_not_asked() -> bool:
    return False


@contextmanager
def _no_wish_to_resume(*, beside: Mapping[str, Any]) -> Iterator[None]:
    """Let `main` rewind or fork a run in a further attempt: the client refuses that together with resume."""
    if beside.get("resume_from") is None and beside.get("fork_from") is None:
        yield
        return
    settings = wandb.setup().settings  # filled by the client from the environment
    wish, settings.resume = settings.resume, None
    try:
        yield
    finally:
        settings.resume = wish


def _name_program(program: str) -> None:
    """Set the user's file as the run's program; the client would take this process's command."""
    if program and PROGRAM not in os.environ:
        settings: Any = wandb.setup().settings
        if settings.program != program:
            settings.program, settings.program_abspath, settings.program_relpath = program, None, None
            settings.update_from_system_environment()


def _is_offline(folder: Path) -> bool:
    """Return whether a run's files are offline, sent only by `wandb sync` (wandb client: by the folder's
    name)."""
    return folder.parent.name.startswith("offline-")


def _replace(*pairs: tuple[Any, Any]) -> None:
    """Replace functions in all of wandb's modules, as user code may import them from any."""
    by_id = {id(old): new for old, new in pairs}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "wandb":
            for key, value in list(vars(module).items()):
                if id(value) in by_id:
                    setattr(module, key, by_id[id(value)])


HOOKS = WandbHooks()
