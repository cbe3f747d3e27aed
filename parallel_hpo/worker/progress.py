"""How far the run is that is on, by what it logs: its step, its last value, and how much is to come.

    run.log ── note ──▶ the latest ── a thread, once a second at the most ──▶ send

The call of `log` only leaves what it was given: a few microseconds. What other processes log of
the run (children of `main`, a program) is not seen.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import wandb

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import RunId
from parallel_hpo.core.values import find_value

EPOCHS: Final = "epochs"
MAX_STEPS: Final = "max_steps"
"""Where a run's config says how much is to come: among its parameters, or as `main` has put it there."""
EPOCH: Final = "epoch"
STEPS: Final = ("global_step", "step", "train/global_step", "trainer/global_step")
"""Under these a run logs how far it is, where that is not W&B's own step."""
MARKS: Final = (EPOCH, *STEPS)


class _Logged(NamedTuple):
    """What is kept of a call of `log`; the config is looked at later, as that takes longest."""

    step: int
    marks: Mapping[str, Any]
    """What says how far the run is: nothing else of the user's data is held."""
    run: Any


class ProgressTracker:
    """What the run that is on has logged; there is one per worker, `HOOKS.course`."""

    def __init__(self) -> None:
        self.metric: str | None = None
        self.goal = "minimize"
        self._run_id = RunId("")
        self._send: Callable[[Progress], None] | None = None
        self._active: Callable[[], None] | None = None
        self._active_every_s = 0.0
        self._active_at = 0.0
        self._news = threading.Event()
        self.begin(RunId(""))

    def begin(self, run_id: RunId) -> None:
        """Forget the last run."""
        self._run_id = run_id
        self._latest: _Logged | None = None
        self._value: tuple[str, float] | None = None
        self._first_epoch: float | None = None

    def tell_activity(self, tell: Callable[[], None], *, every_s: float) -> None:
        """Call `tell` when a run logs, at most every `every_s` seconds."""
        self._active, self._active_every_s = tell, every_s

    def tell(self, send: Callable[[Progress], None], *, every_s: float) -> None:
        """Call `send`, in a thread of its own, with how far the run is, at most every `every_s` seconds."""
        self._send = send
        threading.Thread(target=self._tell, args=(every_s,), name="parallel_hpo-course", daemon=True).start()

    def watch(self, run: Any) -> None:
        """Wrap `run.log`, and `wandb.log`, which `init` has just made the same."""
        log, steps = run.log, _Steps(getattr(run, "starting_step", 0))

        @functools.wraps(log)
        def noting_log(*args: Any, **kwargs: Any) -> Any:
            self._say_active()
            result = log(*args, **kwargs)
            with suppress(Exception):  # what is logged is the user's, and may be of any kind
                self._note(run, steps, *args, **kwargs)
            return result

        if getattr(wandb, "log", None) == log:
            vars(wandb)["log"] = noting_log
        run.log = noting_log

    def _say_active(self) -> None:
        now = time.monotonic()
        if self._active is not None and now - self._active_at >= self._active_every_s:
            self._active_at = now
            self._active()

    def _note(
        self,
        run: Any,
        steps: _Steps,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
    ) -> None:
        marks = {name: data[name] for name in MARKS if name in data}
        self._latest = _Logged(steps.of(step, commit), marks, run)
        value = None if self.metric is None else find_value(data, self.metric, self.goal)
        if value is not None and self.metric is not None:
            self._value = (self.metric, value)
        elif self._value is None or self._value[0] != self.metric:
            self._value = _first_number(data) or self._value
        if self._first_epoch is None and (epoch := _number(marks.get(EPOCH))) is not None:
            self._first_epoch = epoch
        if not self._news.is_set():
            self._news.set()

    def _tell(self, every_s: float) -> None:
        while self._send is not None:
            self._news.wait()
            self._news.clear()
            with suppress(Exception):  # the supervisor is gone, or the run is
                if (progress := self._progress()) is not None:
                    self._send(progress)
            time.sleep(every_s)

    def _progress(self) -> Progress | None:
        """Return how far the run is; None where it has logged nothing."""
        latest, (name, value) = self._latest, self._value or ("", None)
        if latest is None:
            return None
        done, total = self._part_done(latest)
        return Progress(self._run_id, latest.step, done, total, name, value)

    def _part_done(self, latest: _Logged) -> tuple[float | None, float | None]:
        """Return how much of how much is done; nothing where the one does not fit the other."""
        epochs, max_steps = (_number(latest.run.config.get(name)) for name in (EPOCHS, MAX_STEPS))
        epoch = _number(latest.marks.get(EPOCH))
        steps = next((n for name in STEPS if (n := _number(latest.marks.get(name))) is not None), None)
        if epochs and epoch is not None:
            done, total = epoch + (1 if self._first_epoch == 0 else 0), epochs
        else:
            done, total = latest.step + 1 if steps is None else steps, max_steps or epochs or 0
        return (done, total) if 0 <= done <= total and total > 0 else (None, None)


class _Steps:
    """Counts W&B's steps, as its client does: asking that takes a message to wandb-core and back."""

    def __init__(self, first: int) -> None:
        self._next = first

    def of(self, step: int | None, commit: bool | None) -> int:
        """Return the step of a call of `log`."""
        if step is not None:
            self._next = max(self._next, step)
        now = self._next
        if commit or (commit is None and step is None):
            self._next += 1
        return now


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first_number(data: Mapping[str, Any]) -> tuple[str, float] | None:
    own = ((name, value) for name, value in data.items() if name not in MARKS)
    return next(((name, float(value)) for name, value in own if _number(value) is not None), None)
