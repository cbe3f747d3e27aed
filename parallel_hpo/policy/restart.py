"""How soon a slot's dead worker may be started again, and when the slot gives up.

The first restart within the window comes at once (most deaths are one-offs);
from the second on the wait doubles, with full jitter below one half, so that
slots which died together don't come back together (Brooker, "Exponential
Backoff and Jitter", 2015).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """A slot's restart budget: more than `max_restarts` within `window_s` seconds and it gives up."""

    max_restarts: int = 5
    window_s: float = 600.0
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after `delay_s` seconds; `history` is the slot's restarts within the window."""

    delay_s: float
    history: tuple[float, ...]


def next_restart(
    history: tuple[float, ...], limits: RestartLimits, *, now: float, jitter: float
) -> Restart | None:
    """Return when a worker that died at `now` is started again, or None: the budget is spent.

    `history` holds the times of earlier restarts (monotonic seconds, ascending);
    `jitter` is a number in [0, 1).
    """
    recent = tuple(at for at in history if now - at < limits.window_s)
    if len(recent) >= limits.max_restarts:
        return None
    return Restart(_delay_s(len(recent), limits, jitter), (*recent, now))


def _delay_s(earlier: int, limits: RestartLimits, jitter: float) -> float:
    if earlier == 0:
        return 0.0
    # The exponent is clamped: 2.0 ** 1024 overflows.
    full = min(limits.backoff_max_s, limits.backoff_s * 2.0 ** min(earlier - 1, 60))
    return full * (1.0 - jitter / 2.0)
