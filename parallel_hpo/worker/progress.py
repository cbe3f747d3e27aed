"""The active run's progress, by what it logs: its step, its last value, and the total.

    run.log ── note ──▶ the latest ── a thread, at most once a second ──▶ send

A call of `log` only stores its arguments, which takes microseconds. Logs of other processes (children of
`main`, a program) are not seen.
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
"""Names in a run's config of the total: parameters, or entries that `main` has added."""
EPOCH: Final = "epoch"
STEPS: Final = ("global_step", "step", "train/global_step", "trainer/global_step")
"""Names under which a run logs its progress, if not by W&B's step."""
MARKS: Final = (EPOCH, *STEPS)


class _Logged(NamedTuple):
    """What is kept of a call of `log`; the config is read later, as that is slow."""

    step: int
    marks: Mapping[str, Any]
    """Values that show progress; no other user data is kept."""
    run: Any


class ProgressTracker:
    """What the active run has logged; one per worker, `HOOKS.progress`."""

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
        """Reset for a new run."""
        self._run_id = run_id
        self._latest: _Logged | None = None
        self._value: tuple[str, float] | None = None
        self._first_epoch: float | None = None

    def report_activity(self, report: Callable[[], None], *, every_s: float) -> None:
        """Call `report` when a run logs, at most every `every_s` seconds."""
        self._active, self._active_every_s = report, every_s

    def report(self, send: Callable[[Progress], None], *, every_s: float) -> None:
        """Call `send` with the run's progress, in a thread, at most every `every_s` seconds."""
        self._send = send
        name = "parallel_hpo-progress"
        threading.Thread(target=self._report, args=(every_s,), name=name, daemon=True).start()

    def watch(self, run: Any) -> None:
        """Wrap `run.log`, and `wandb.log`, which `init` has just set to it."""
        log, steps = run.log, _Steps(getattr(run, "starting_step", 0))

        @functools.wraps(log)
        def noting_log(*args: Any, **kwargs: Any) -> Any:
            self._say_active()
            result = log(*args, **kwargs)
            with suppress(Exception):  # users may log anything
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

    def _report(self, every_s: float) -> None:
        while self._send is not None:
            self._news.wait()
            self._news.clear()
            with suppress(Exception):  # the supervisor or the run may have ended
                if (progress := self._progress()) is not None:
                    self._send(progress)
            time.sleep(every_s)

    def _progress(self) -> Progress | None:
        """Return the run's progress, None if it has logged nothing."""
        latest, (name, value) = self._latest, self._value or ("", None)
        if latest is None:
            return None
        done, total = self._part_done(latest)
        return Progress(self._run_id, latest.step, done, total, name, value)

    def _part_done(self, latest: _Logged) -> tuple[float | None, float | None]:
        """Return the part done and the total; None for both if they don't fit together."""
        epochs, max_steps = (_number(latest.run.config.get(name)) for name in (EPOCHS, MAX_STEPS))
        epoch = _number(latest.marks.get(EPOCH))
        steps = next((n for name in STEPS if (n := _number(latest.marks.get(name))) is not None), None)
        if epochs and epoch is not None:
            done, total = epoch + (1 if self._first_epoch == 0 else 0), epochs
        else:
            done, total = latest.step + 1 if steps is None else steps, max_steps or epochs or 0
        return (done, total) if 0 <= done <= total and total > 0 else (None, None)


class _Steps:
    """Counts W&B's steps as its client does, as asking wandb-core would take a message there and back."""

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
