"""Notices what the user's code does with wandb's public functions, in this process.

`wandb.init` is wrapped to know whether a run was opened, and where: the sweep's metric
is read from the summary that the client leaves in the run's folder. A run that another
process has opened, a child of `main` or a program, is known by that folder. `wandb.login`
keeps the key that the worker was given where the server takes no other: a user's real
key is then neither sent nor written anywhere.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import wandb

from parallel_hpo.words import RunId

SUMMARY: Final = "wandb-summary.json"
"""The file in a run's folder in which the client leaves the run's summary."""


class Watch:
    """What one process's user code has done since `begin`; there is one per worker, `WATCH`."""

    def __init__(self) -> None:
        self.metric: str | None = None
        self.goal = "minimize"
        self.keep_login = False
        self.initialised = False
        self.by_others = False
        self._folder: str | None = None
        self._place = Path()
        self._run_id = RunId("")
        self._before: frozenset[Path] = frozenset()
        self._tell: Callable[[], None] | None = None
        self._every_s = 0.0
        self._told_at = 0.0
        self._installed = False

    def install(self) -> None:
        """Put the wrappers in place of wandb's functions, wherever wandb itself keeps them."""
        if not self._installed:
            self._installed = True
            _replace(wandb.init, self._wrap_init(wandb.init))
            _replace(wandb.login, self._wrap_login(wandb.login))

    def begin(self, run_id: RunId, attempt: int) -> None:
        """Forget the last run; only a later attempt can find folders of its run, and pays for the look."""
        self.initialised = self.by_others = False
        self._folder = None
        self._place, self._run_id = Path(os.environ.get("WANDB_DIR", "."), "wandb"), run_id
        self._before = frozenset(self._folders() if attempt > 1 else ())

    def look_for_others(self) -> None:
        """Where this process opened no run, see whether another one did: the last is the one that counts."""
        if self.initialised:
            return
        for folder in sorted(self._folders() - self._before):
            self.initialised = self.by_others = True
            self._folder = str(folder / "files")

    @property
    def left_open(self) -> bool:
        """Whether another process opened the run and did not finish it, which leaves a summary."""
        return self.by_others and self._folder is not None and not Path(self._folder, SUMMARY).exists()

    def _folders(self) -> set[Path]:
        """Return the folders that clients have made for the run."""
        return set(self._place.glob(f"*run-*-{self._run_id}"))

    def _wrap_init(self, init: Any) -> Any:
        @functools.wraps(init)
        def noting_init(*args: Any, **kwargs: Any) -> Any:
            run = init(*args, **kwargs)
            self._note(run)
            return run

        return noting_init

    def _wrap_login(self, login: Any) -> Any:
        @functools.wraps(login)
        def keeping_login(*args: Any, **kwargs: Any) -> Any:
            if self.keep_login:
                print("wandb.login: this sweep's own server and key are used", file=sys.stderr)
                return True
            return login(*args, **kwargs)

        return keeping_login

    def _note(self, run: Any) -> None:
        if run is not None and not getattr(run, "disabled", False):
            self.initialised = True
            self._folder = run.dir
            if self._tell is not None:
                self._note_logging(run)

    def tell_activity(self, tell: Callable[[], None], *, every_s: float) -> None:
        """Call `tell` when a run logs, at most every `every_s` seconds."""
        self._tell, self._every_s = tell, every_s

    def _note_logging(self, run: Any) -> None:
        """Wrap `run.log`, and `wandb.log`, which `init` has just made the same."""
        log = run.log

        @functools.wraps(log)
        def noting_log(*args: Any, **kwargs: Any) -> Any:
            now = time.monotonic()
            if self._tell is not None and now - self._told_at >= self._every_s:
                self._told_at = now
                self._tell()
            return log(*args, **kwargs)

        if getattr(wandb, "log", None) == log:
            vars(wandb)["log"] = noting_log
        run.log = noting_log

    def read_value(self) -> float | None:
        """Return the sweep's metric from the summary of the run that was opened last, once it is closed."""
        if self.metric is None or self._folder is None:
            return None
        try:
            summary = json.loads(Path(self._folder, SUMMARY).read_text())
        except (OSError, ValueError):
            return None  # user code took the folder away, or the client was killed before it wrote the file
        return find_value(summary, self.metric, self.goal)


def find_value(summary: Mapping[str, Any], metric: str, goal: str) -> float | None:
    """Return a metric of a summary as a finite float, or None.

    A dotted name may be a key as it stands or a path. Where `define_metric(summary=…)`
    made it a mapping, that of the goal counts ("max" for maximize), then "best", then "last".
    """
    value = summary.get(metric)
    if value is None:
        value = functools.reduce(_item, metric.split("."), summary)
    if isinstance(value, Mapping):
        keys = ("max" if goal == "maximize" else "min", "best", "last")
        value = next((value[key] for key in keys if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None  # an integer may have any length
    return number if math.isfinite(number) else None


def _item(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _replace(old: Any, new: Any) -> None:
    """Put `new` wherever a module of wandb's names `old`, for user code may import it from any."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "wandb":
            for key in [key for key, value in list(vars(module).items()) if value is old]:
                setattr(module, key, new)


WATCH = Watch()
