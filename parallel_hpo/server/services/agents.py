"""Agents' requests: registration and heartbeat, one transaction each; `rules.heartbeat` decides."""

from __future__ import annotations

import json
from typing import Any

from parallel_hpo.core.messages import INDEX_KEY
from parallel_hpo.server import engines
from parallel_hpo.server.context import UNLABELLED, AppContext
from parallel_hpo.server.engines import expect_our_engine
from parallel_hpo.server.rules import heartbeat
from parallel_hpo.server.rules import runs as run_states
from parallel_hpo.server.rules import sweeps as sweep_states
from parallel_hpo.server.rules.heartbeat import (
    Answer,
    Command,
    Deliver,
    Exit,
    HeartbeatState,
    Issue,
    NoCommand,
    Stop,
)
from parallel_hpo.server.rules.runs import RunEvent, RunState
from parallel_hpo.server.rules.sweeps import IllegalSweepMoveError, SweepEvent
from parallel_hpo.server.services.run_transitions import apply_event, end_unstarted, requeue, withdraw
from parallel_hpo.server.services.sweeps import create_pending, wrap_values
from parallel_hpo.server.store import pending_runs
from parallel_hpo.server.store import runs as runs_store
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Agent, Run, Sweep
from parallel_hpo.server.store.sweeps import Point
from parallel_hpo.server.values import RefusedError


def register(app: AppContext, sweep_id: str, host: str, label: str) -> Agent:
    """Register an agent; RefusedError: 404 for an unknown sweep, 400 (as W&B) if it isn't running."""
    now = app.clock()
    with app.database.write() as transaction:
        sweep = sweeps_store.find(transaction, sweep_id)
        if sweep is None:
            raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
        try:
            state = sweep_states.move(sweep.state, SweepEvent.AGENT_JOINED)
        except IllegalSweepMoveError:
            raise RefusedError(f"Sweep {sweep_id} is not running", status=400) from None
        expect_our_engine(sweep)
        if state is not sweep.state:
            sweeps_store.change(transaction, sweep_id, {"state": state, "updated_at": now})
        if label:
            _requeue_earlier_agents(transaction, sweep_id, label)
        agent = Agent(
            id=app.new_id(),
            sweep_id=sweep_id,
            label=label,
            host=host,
            gone=False,
            created_at=now,
            heartbeat_at=now,
        )
        sweeps_store.add_agent(transaction, agent)
    return agent


def _requeue_earlier_agents(transaction: Transaction, sweep_id: str, label: str) -> None:
    """Requeue what a worker's earlier agents never started: a worker has one agent at a time."""
    for run in pending_runs.never_started(
        transaction, sweeps_store.mark_agents_gone(transaction, sweep_id, label)
    ):
        requeue(transaction, run)


def answer_heartbeat(app: AppContext, agent_id: str, listed: frozenset[str]) -> list[dict[str, Any]]:
    """Answer a heartbeat with at most one command; RefusedError (404) for an unknown agent or sweep.

    AskFirstError if a model must be asked first: nothing has changed, and the caller repeats the
    heartbeat with the suggestion in `app.asked`.
    """
    sweep_id = ""
    try:
        with app.database.write() as transaction:
            agent, sweep = _agent_and_sweep(transaction, agent_id)
            sweep_id = sweep.id
            return _Heartbeat(app, transaction, agent, sweep, listed).answer()
    except BaseException:
        # The engine may know changes that are rolled back now.
        app.engines.forget(sweep_id)
        raise


def _agent_and_sweep(transaction: Transaction, agent_id: str) -> tuple[Agent, Sweep]:
    agent = sweeps_store.find_agent(transaction, agent_id)
    sweep = None if agent is None else sweeps_store.find(transaction, agent.sweep_id)
    if agent is None or sweep is None:
        raise RefusedError(f"agent {agent_id} or its sweep doesn't exist", status=404)
    return agent, sweep


class _Heartbeat:
    """One heartbeat within its transaction."""

    def __init__(
        self, app: AppContext, transaction: Transaction, agent: Agent, sweep: Sweep, listed: frozenset[str]
    ) -> None:
        self._app = app
        self._transaction = transaction
        self._agent = agent
        self._sweep = sweep
        self._listed = listed
        self._now = app.clock()

    def answer(self) -> list[dict[str, Any]]:
        state = self._read_state()
        decision = heartbeat.answer(state, self._listed, self._now, self._app.timeouts)
        self._apply(decision)
        command = self._issue(state) if isinstance(decision.command, Issue) else decision.command
        return self._perform(command)

    def _read_state(self) -> HeartbeatState:
        transaction, agent, sweep = self._transaction, self._agent, self._sweep
        own = pending_runs.outstanding(transaction, agent.id, self._listed)
        alive = [run.run_id for run in own if run.name in self._listed]
        if alive:
            pending_runs.touch(transaction, alive, self._now)
        sweeps_store.touch_agent(transaction, agent.id, self._now)
        unknown = self._listed - {run.name for run in own}
        return HeartbeatState(
            sweep_state=sweep.state,
            agent_gone=agent.gone,
            own=own,
            lost_runs=pending_runs.assigned_to_others(transaction, sweep.id, agent.id, unknown)
            if unknown
            else (),
            waiting=pending_runs.waiting(transaction, sweep.id),
            may_requeue=pending_runs.has_requeuable(transaction, sweep.id, agent.id),
            cap_reached=self._cap_reached(),
            supervised=agent.label != UNLABELLED,
            programs=agent.label == UNLABELLED and engines.program_of(sweep.config) is not None,
            scheduled=engines.is_scheduled(sweep.config),
            clock_set_at=self._app.clock_set_at(),
        )

    def _apply(self, decision: Answer) -> None:
        for run_move in decision.moves:
            run = self._run(run_move.run_id)
            if run_move.event is RunEvent.OWNER_KILLED:
                end_unstarted(self._transaction, self._sweep, run)
                continue
            changes = {"exitcode": 1} if run_move.event is RunEvent.GIVEN_UP else {}
            apply_event(self._transaction, run, run_move.event, changes)

    def _perform(self, command: Command) -> list[dict[str, Any]]:
        match command:
            case NoCommand():
                return []
            case Exit(exhausted=used_up):
                if used_up:
                    self._finish_sweep()
                return [{"type": "exit"}]
            case Stop(name=name):
                return [{"type": "stop", "run_id": name}]
            case Deliver(run_id=run_id, resume=resume):
                return [self._deliver(self._run(run_id), "resume" if resume else "run")]
            case _:
                raise AssertionError(f"{command} was already turned into another command")

    def _deliver(self, run: Run, kind: str) -> dict[str, Any]:
        changes: dict[str, Any] = {"waiting": False, "agent_id": self._agent.id, "heard_at": self._now}
        again = run.agent_id == self._agent.id
        changes["deliveries"] = run.deliveries + 1 if again else 1
        if run.state is RunState.PREEMPTED:
            changes["state"] = run_states.move(run.state, RunEvent.REASSIGNED)
            changes["stop_requested"] = False  # an earlier stop request is void
        runs_store.change(self._transaction, run.id, changes)
        return self._command_for(kind, run)

    def _issue(self, state: HeartbeatState) -> Command:
        """Create the sweep's next run, if its engine has one, and return the command that delivers it."""
        sweep = self._sweep
        point = sweeps_store.take_open_point(self._transaction, sweep.id) or self._new_point()
        if point is None:
            return heartbeat.exhausted(state, self._listed)
        own = {"agent_id": self._agent.id}
        name = self._app.new_id()
        run_id = create_pending(self._transaction, sweep, name, point.index, point.assigned, self._now, own)
        issued = max(sweep.issued, point.index + 1)
        sweeps_store.change(self._transaction, sweep.id, {"issued": issued, "heartbeat_at": self._now})
        return Deliver(run_id)

    def _new_point(self) -> Point | None:
        parameters = self._app.engines.suggest(self._transaction, self._sweep, self._app.asked)
        return None if parameters is None else Point(self._sweep.issued, json.dumps(parameters))

    def _cap_reached(self) -> bool:
        sweep = self._sweep
        if sweep.run_cap is None or sweep.issued < sweep.run_cap:
            return False
        return not sweeps_store.has_open_points(self._transaction, sweep.id)  # a deleted run's point is free

    def _finish_sweep(self) -> None:
        withdraw(self._transaction, self._sweep)
        state = sweep_states.move(self._sweep.state, SweepEvent.EXHAUSTED)
        sweeps_store.change(self._transaction, self._sweep.id, {"state": state, "updated_at": self._now})

    def _command_for(self, kind: str, run: Run) -> dict[str, Any]:
        arguments = wrap_values(json.loads(run.assigned or "{}"))
        if self._agent.label != UNLABELLED and run.sweep_index is not None:
            # wandb client: the agent reads only the value of each argument, and stores the whole in a file.
            arguments = {name: entry | {INDEX_KEY: run.sweep_index} for name, entry in arguments.items()}
        program = engines.program_of(self._sweep.config)
        return {"type": kind, "run_id": run.name, "args": arguments, "program": program}

    def _run(self, run_id: int) -> Run:
        run = runs_store.find(self._transaction, run_id)
        if run is None:
            raise RefusedError("the run was deleted during this request", status=503)
        return run
