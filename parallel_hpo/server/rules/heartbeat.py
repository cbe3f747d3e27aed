"""What to answer to an agent's heartbeat: a pure function of what is known, the beat, and now.

An agent has at most one outstanding run, and each answer holds at most one command
(wandb client: the function agent reads only the first of a list). A run that was
issued and never started is delivered again before anything new is issued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parallel_hpo.server.rules.runs import RunEvent, RunState, silence
from parallel_hpo.server.rules.sweeps import SweepState

DELIVERIES: Final = 2
"""How often a run is given to a stranger's agent: once more where the answer was lost or `main` never
called init. A supervised worker opens such a run itself, so that there only an answer can have been lost."""


@dataclass(frozen=True, slots=True)
class SilenceTimeouts:
    """How long silence is borne, in seconds."""

    left_s: float = 10
    """A run that its agent no longer lists, without a word of its end (its process was killed)."""
    stopping_s: float = 60
    """The same after a stop was asked for: the function agent forgets such a run while it still unwinds."""
    silent_s: float = 300
    """An agent or a run of which nothing was heard at all; W&B waits about as long."""


@dataclass(frozen=True, slots=True)
class OwnRun:
    """A run that this agent owes us the end of."""

    run_id: int
    name: str
    state: RunState
    deliveries: int
    stop_requested: bool
    heard_at: float


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run that waits for any agent: it never started, or was preempted."""

    run_id: int
    state: RunState


@dataclass(frozen=True, slots=True)
class HeartbeatState:
    """All that the answer depends on."""

    sweep_state: SweepState
    agent_gone: bool
    own: tuple[OwnRun, ...]
    not_own: tuple[str, ...]
    """Names of runs that the agent lists but that were given to another agent meanwhile."""
    waiting: WaitingRun | None
    unsettled: bool
    """Some run of the sweep, of whatever agent, may still come back to be issued again."""
    cap_reached: bool
    supervised: bool = False
    """A supervisor stands behind the agent: what it was issued and has not started never reached it."""
    programs: bool = False
    """Each run is a process of its own: what the agent no longer lists has no process any more."""
    scheduled: bool = False
    """All runs come from a scheduler of the user's own, through the queue of waiting ones."""
    clock_set_at: float = 0.0
    """When the clock was last set: no silence began before."""


@dataclass(frozen=True, slots=True)
class NoCommand:
    """Go on with what you do."""


@dataclass(frozen=True, slots=True)
class Exit:
    """Stop all runs and leave; `exhausted` where the sweep is used up by this answer."""

    exhausted: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the run of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Run this run, which exists already."""

    run_id: int
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Issue:
    """Run a new run, if the engine has one; else `exhausted` says what to answer."""


Command = NoCommand | Exit | Stop | Deliver | Issue


@dataclass(frozen=True, slots=True)
class RunMove:
    """Something happened to a run."""

    run_id: int
    event: RunEvent


@dataclass(frozen=True, slots=True)
class Answer:
    """One command, and what the beat tells of the agent's runs."""

    command: Command
    moves: tuple[RunMove, ...] = ()


def answer(view: HeartbeatState, listed: frozenset[str], now: float, patience: SilenceTimeouts) -> Answer:
    """Decide what to answer to a beat that lists the runs `listed`, at `now` (seconds since the epoch)."""
    if view.agent_gone or view.sweep_state is SweepState.CANCELED:
        return Answer(Exit())
    unwanted = [run.name for run in view.own if run.stop_requested and run.name in listed]
    if unwanted or view.not_own:
        return Answer(Stop((unwanted or list(view.not_own))[0]))
    moves: list[RunMove] = []
    for run in view.own:
        verdict = _judge(run, view, listed, now, patience)
        if isinstance(verdict, RunEvent):
            moves.append(RunMove(run.run_id, verdict))
        else:
            return Answer(verdict, tuple(moves))
    if view.supervised and listed:
        # It is over for the server, and its `main` still goes on: neither to be stopped by the sweep's end,
        # nor to be followed by a run that this agent may not be meant to have.
        return Answer(NoCommand(), tuple(moves))
    return Answer(_next_run(view, listed), tuple(moves))


def exhausted(view: HeartbeatState, listed: frozenset[str]) -> Command:
    """Say what to answer when there is no new run: wait while one may come back, else end the sweep."""
    return NoCommand() if view.unsettled or listed else Exit(exhausted=True)


def _judge(
    run: OwnRun, view: HeartbeatState, listed: frozenset[str], now: float, patience: SilenceTimeouts
) -> RunEvent | NoCommand | Deliver:
    """Say what became of one outstanding run: an event that ends it, or the command that it calls for."""
    if run.name in listed:
        return NoCommand()
    over = view.sweep_state is SweepState.FINISHED
    if run.state is RunState.PENDING and (over or not run.stop_requested):
        return _never_started(run, view)
    limit_s = patience.stopping_s if run.stop_requested and not view.programs else patience.left_s
    if now - max(run.heard_at, view.clock_set_at) < limit_s:
        return NoCommand()
    return silence(stop_requested=run.stop_requested)


def _never_started(run: OwnRun, view: HeartbeatState) -> RunEvent | NoCommand | Deliver:
    if view.sweep_state is SweepState.FINISHED:
        return RunEvent.OWNER_SAYS_KILLED
    if view.sweep_state is SweepState.PAUSED:
        return NoCommand()
    again = view.supervised or run.deliveries < DELIVERIES
    return Deliver(run.run_id) if again else RunEvent.GIVEN_UP


def _next_run(view: HeartbeatState, listed: frozenset[str]) -> Command:
    if view.sweep_state is SweepState.FINISHED:
        # wandb client: an agent kills what it still lists. That may be a program that has told its run's end
        # and still has output to write, or a `main` that goes on after `run.finish()`.
        return NoCommand() if listed else Exit()
    if view.sweep_state is SweepState.PAUSED:
        return NoCommand()
    if view.waiting is not None:
        return Deliver(view.waiting.run_id, resume=view.waiting.state is RunState.PREEMPTED)
    if view.cap_reached:
        return exhausted(view, listed)
    return NoCommand() if view.scheduled else Issue()
