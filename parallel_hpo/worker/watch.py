"""Notices what the user's code does with wandb's public functions, in this process.

`wandb.init` is wrapped to know whether a run was opened, and the run's `finish` to
read the sweep's metric while its summary can still be asked for. `wandb.login` keeps
the key that the worker was given where the server takes no other: a user's real key
is then neither sent nor written anywhere.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping
from typing import Any

import wandb


class Watch:
    """What one process's user code has done since `begin`; there is one per worker, `WATCH`."""

    def __init__(self) -> None:
        self.metric: str | None = None
        self.goal = "minimize"
        self.keep_login = False
        self.initialised = False
        self.value: float | None = None
        self._noted: Any = None
        self._installed = False

    def install(self) -> None:
        """Put the wrappers in place of wandb's functions, wherever wandb itself keeps them."""
        if not self._installed:
            self._installed = True
            _replace(wandb.init, self._wrap_init(wandb.init))
            _replace(wandb.login, self._wrap_login(wandb.login))

    def begin(self) -> None:
        """Forget the last run."""
        self.initialised = False
        self.value = None
        self._noted = None

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
        if run is None or getattr(run, "disabled", False):
            return
        self.initialised = True
        if run is self._noted:
            return  # `init` returns an open run again where one is open
        self._noted = run
        finish = run.finish

        @functools.wraps(finish)
        def noting_finish(*args: Any, **kwargs: Any) -> Any:
            self.read_value(run)
            return finish(*args, **kwargs)

        run.finish = noting_finish

    def read_value(self, run: Any) -> None:
        """Remember the metric that `run`'s summary has now."""
        if self.metric is None:
            return
        try:
            self.value = find_value(run.summary, self.metric, self.goal)
        except Exception as error:  # noqa: BLE001 - wandb may raise anything once its service is gone
            print(f"the summary's {self.metric} can't be read: {error}", file=sys.stderr)


def find_value(summary: Any, metric: str, goal: str) -> float | None:
    """Return a metric of a summary as a finite float, or None.

    A dotted name may be a key as it stands or a path. Where `define_metric(summary=…)`
    made it a mapping, that of the goal counts ("max" for maximize), then "best", then "last".
    """
    value = summary.get(metric)
    if value is None:
        value = functools.reduce(_item, metric.split("."), summary)
    if _is_mapping(value):
        known = set(value.keys())
        keys = ("max" if goal == "maximize" else "min", "best", "last")
        value = next((value[key] for key in keys if key in known), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _item(value: Any, key: str) -> Any:
    return value[key] if _is_mapping(value) and key in set(value.keys()) else None


def _is_mapping(value: Any) -> bool:
    """Whether it is a mapping; wandb's summary objects are, without being registered as one."""
    return isinstance(value, Mapping) or hasattr(value, "keys")


def _replace(old: Any, new: Any) -> None:
    """Put `new` wherever a module of wandb's names `old`, for user code may import it from any."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "wandb":
            for key in [key for key, value in list(vars(module).items()) if value is old]:
                setattr(module, key, new)


WATCH = Watch()
