"""The answer to an agent's heartbeat: a pure function of the state, the runs that it lists, and now.

An agent has at most one outstanding run, and each answer holds at most one command
(wandb client: the function agent reads only the first of a list). A run that was
issued and never started is delivered again before a new one is issued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parallel_hpo.server.rules.runs import RunEvent, RunState, silence
from parallel_hpo.server.rules.sweeps import SweepState

DELIVERIES: Final = 2
"""Maximum deliveries of a run to an unsupervised agent: the first answer may have been lost, or `main` never
called init. No maximum for a supervised worker: it opens such a run itself, so only an answer can be lost."""


@dataclass(frozen=True, slots=True)
class SilenceTimeouts:
    """Silence timeouts, in seconds."""

    left_s: float = 10
    """For a run that its agent no longer lists and that reported no end (its process was killed)."""
    stopping_s: float = 60
    """The same after a stop request: the function agent drops such a run while it is still ending."""
    silent_s: float = 300
    """For an agent or a run that sends nothing at all; about W&B's own timeout."""


@dataclass(frozen=True, slots=True)
class OwnRun:
    """A run whose end this agent must still report."""

    run_id: int
    name: str
    state: RunState
    deliveries: int
    stop_requested: bool
    heard_at: float


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that waits for any agent: never started, or preempted."""

    run_id: int
    state: RunState


@dataclass(frozen=True, slots=True)
class HeartbeatState:
    """Everything that the answer depends on."""

    sweep_state: SweepState
    agent_gone: bool
    own: tuple[OwnRun, ...]
    lost_runs: tuple[str, ...]
    """Names of runs that the agent lists but that now belong to another agent."""
    waiting: WaitingRun | None
    may_requeue: bool
    """Whether a run of the sweep, of any agent, may still be requeued."""
    cap_reached: bool
    supervised: bool = False
    """Whether the agent has a supervisor: a run that it has not started then never reached it."""
    programs: bool = False
    """Whether each run is a process of its own: a run that is no longer listed then has no process."""
    scheduled: bool = False
    """Whether all runs come from the user's own scheduler, through the queue."""
    clock_set_at: float = 0.0
    """When the clock was last set; silence counts from then on at the earliest."""


@dataclass(frozen=True, slots=True)
class NoCommand:
    """Continue."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Stop all runs and exit; `exhausted` if the sweep ends with this answer."""

    exhausted: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the run of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Execute this existing run."""

    run_id: int
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """Execute a new run if the engine has one; else answer as `exhausted` does."""


Command = NoCommand | Exit | Stop | Deliver | Issue


@dataclass(frozen=True, slots=True)
class RunMove:
    """An event that applies to a run."""

    run_id: int
    event: RunEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """One command, and the events that follow from the heartbeat."""

    command: Command
    moves: tuple[RunMove, ...] = ()


def answer(view: HeartbeatState, listed: frozenset[str], now: float, timeouts: SilenceTimeouts) -> Answer:
    """Decide the answer to a heartbeat that lists the runs `listed`, at `now` (seconds since the epoch)."""
    if view.agent_gone or view.sweep_state is SweepState.CANCELED:
        return Answer(Exit())
    unwanted = [run.name for run in view.own if run.stop_requested and run.name in listed]
    if unwanted or view.lost_runs:
        return Answer(Stop((unwanted or list(view.lost_runs))[0]))
    moves: list[RunMove] = []
    for run in view.own:
        outcome = _check_outstanding(run, view, listed, now, timeouts)
        if isinstance(outcome, RunEvent):
            moves.append(RunMove(run.run_id, outcome))
        else:
            return Answer(outcome, tuple(moves))
    if view.supervised and listed:
        # The run has ended for the server while its `main` continues. The sweep's end must not stop it, and
        # this agent may not be meant to get another run.
        return Answer(NoCommand(), tuple(moves))
    return Answer(_next_run(view, listed), tuple(moves))


def exhausted(view: HeartbeatState, listed: frozenset[str]) -> Command:
    """Answer when there is no new run: wait while one may be requeued, else end the sweep."""
    return NoCommand() if view.may_requeue or listed else Exit(exhausted=True)


def _check_outstanding(
    run: OwnRun, view: HeartbeatState, listed: frozenset[str], now: float, timeouts: SilenceTimeouts
) -> RunEvent | NoCommand | Deliver:
    """Return the event that ends an outstanding run, or the command that it needs."""
    if run.name in listed:
        return NoCommand()
    finished = view.sweep_state is SweepState.FINISHED
    if run.state is RunState.PENDING and (finished or not run.stop_requested):
        return _never_started(run, view)
    limit_s = timeouts.stopping_s if run.stop_requested and not view.programs else timeouts.left_s
    if now - max(run.heard_at, view.clock_set_at) < limit_s:
        return NoCommand()
    return silence(stop_requested=run.stop_requested)


def _never_started(run: OwnRun, view: HeartbeatState) -> RunEvent | NoCommand | Deliver:
    if view.sweep_state is SweepState.FINISHED:
        return RunEvent.OWNER_KILLED
    if view.sweep_state is SweepState.PAUSED:
        return NoCommand()
    may_deliver = view.supervised or run.deliveries < DELIVERIES
    return Deliver(run.run_id) if may_deliver else RunEvent.GIVEN_UP


def _next_run(view: HeartbeatState, listed: frozenset[str]) -> Command:
    if view.sweep_state is SweepState.FINISHED:
        # wandb client: an agent kills what it still lists. That may be a program that has reported its run's
        # end and still writes output, or a `main` that continues after `run.finish()`.
        return NoCommand() if listed else Exit()
    if view.sweep_state is SweepState.PAUSED:
        return NoCommand()
    if view.waiting is not None:
        return Deliver(view.waiting.run_id, resume=view.waiting.state is RunState.PREEMPTED)
    if view.cap_reached:
        return exhausted(view, listed)
    return NoCommand() if view.scheduled else Issue()
