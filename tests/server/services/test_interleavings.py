"""No order of deaths, stops, cancels, resumes and silences loses a point of a grid, or has it run twice.

Actors work like wandb's agents: supervised ones, whose supervisor releases or repeats what a death
cut short, and unsupervised ones (strangers), whose death nobody reports.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parallel_hpo.server.rules.runs import OPEN, RunState
from parallel_hpo.server.services.file_stream import Chunk
from parallel_hpo.server.store import runs, sweeps
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import RefusedError
from tests.server.server_logic import SILENCE_S, Services, grid

POINTS = 4
MANY_BEATS = 40
"""Far more than an agent needs to draw all points and to exit."""
RULE = {"type": "hyperband", "min_iter": 1, "eta": 2}
BANDS = (1, 2, 4)


@dataclass
class Actor:
    """An agent and its process; `label` is empty for a stranger. An actor without an agent repeats a run."""

    label: str
    agent: str | None = None
    run: str | None = None
    inside: bool = False


@dataclass
class ProgressTracker:
    """How many rows a run's present attempt has logged, and who opened the run last."""

    opener: str
    rows: int = 0


@dataclass
class Play:
    """A sweep and its actors."""

    services: Services
    sweep: str
    actors: list[Actor] = field(default_factory=list)
    labels: itertools.count[int] = field(default_factory=itertools.count)
    courses: dict[str, ProgressTracker] = field(default_factory=dict)

    def join(self, *, stranger: bool = False) -> None:
        label = "" if stranger else f"{next(self.labels)}_0_1"
        try:
            self.actors.append(Actor(label, self.services.agent(self.sweep, label)))
        except RefusedError:
            assert self.services.state(self.sweep) in ("FINISHED", "CANCELED")

    def beat(self, actor: Actor) -> None:
        if actor.agent is None:
            return
        command = self.services.beat(actor.agent, *([actor.run] if actor.run else []))
        match command:
            case {"type": "run" | "resume", "run_id": name}:
                assert actor.run is None, "an agent was given a second run"
                assert name not in [other.run for other in self.actors], "a run was given to two live agents"
                actor.run, actor.inside = name, False
            case {"type": "stop", "run_id": name}:
                assert name == actor.run
                self.stop(actor)
            case {"type": "exit"}:
                self.stop(actor)
                self.leave(actor)

    def begin(self, actor: Actor) -> None:
        if actor.run is not None and not actor.inside:
            self.services.start(self.sweep, actor.run, opener=actor.label)
            actor.inside = True
            if actor.run not in self.courses or self.courses[actor.run].opener != actor.label:
                self.courses[actor.run] = ProgressTracker(actor.label)

    def log(self, actor: Actor) -> None:
        """Log a row that Hyperband judges; wandb's client stops a run that has no agent."""
        if actor.run is None or not actor.inside:
            return
        asked = self.services.log(actor.run, self.services.run(actor.run).history_lines % 3)
        self.courses[actor.run].rows += 1
        self.check_progress(actor.run)
        if asked and actor.agent is None:
            self.stop(actor)

    def check_progress(self, name: str) -> None:
        """Check that the server counts only the present attempt's rows, and the bands that they reach."""
        run, rows = self.services.run(name), self.courses[name].rows
        assert run.metric_rows == rows
        with self.services.world.database.read() as transaction:
            at = [band for band in BANDS if run.id in sweeps.losses_at_band(transaction, self.sweep, band)]
        assert at == [band for band in BANDS if band <= rows]

    def end(self, actor: Actor) -> None:
        if actor.run is not None and actor.inside:
            self.services.end(actor.run, summary='{"loss": 1}')
            self.forget(actor)

    def stop(self, actor: Actor) -> None:
        """End by request: a worker starts an unstarted run so that it counts; a stranger forgets it."""
        if actor.run is not None and actor.label:
            self.begin(actor)
        if actor.run is not None and actor.inside:
            self.services.end(actor.run, exitcode=1)
        self.forget(actor)

    def die(self, actor: Actor) -> None:
        """Die: the supervisor's next worker repeats a started run, without an agent."""
        self.actors.remove(actor)
        if not actor.label:
            return
        known = actor.run if actor.inside or actor.agent is None else None
        self.services.release(self.sweep, actor.label, *([known] if known else []))
        if known is not None:
            self.actors.append(Actor(f"{next(self.labels)}_0_1", run=known))

    def leave(self, actor: Actor) -> None:
        self.actors.remove(actor)
        if actor.label:
            self.services.release(self.sweep, actor.label)

    def forget(self, actor: Actor) -> None:
        actor.run, actor.inside = None, False
        if actor.agent is None and actor in self.actors:
            self.actors.remove(actor)

    def stop_run(self, actor: Actor) -> None:
        if actor.run is not None:
            self.services.request_stop(actor.run)

    def set_state(self, state: str) -> None:
        try:
            self.services.set_state(self.sweep, state)
        except RefusedError:
            assert state == "PAUSED"

    def let_time_pass(self) -> None:
        """Let so much time pass that dead actors time out, while living ones are heard."""
        self.services.clock.now += SILENCE_S
        for actor in list(self.actors):
            if actor.run is not None and actor.inside:
                self.services.stream(actor.run, Chunk())
            self.beat(actor)
        self.services.apply_timeouts()

    def finish(self) -> None:
        """Run the sweep to its end, whatever became of it."""
        self.set_state("RUNNING")
        for actor in list(self.actors):
            self.begin(actor)
            self.end(actor)
        self.let_time_pass()
        self.join()
        for _ in range(MANY_BEATS):
            for actor in list(self.actors):
                self.beat(actor)
                self.begin(actor)
                self.end(actor)
            if not self.actors:
                return
            self.services.clock.now += 60
        raise AssertionError(f"not all agents exit: {self.services.progress(self.sweep)}")


ACTS: dict[str, Callable[[Play, Actor], None]] = {
    "beat": Play.beat,
    "begin": Play.begin,
    "log": Play.log,
    "end": Play.end,
    "die": Play.die,
    "stop the run": Play.stop_run,
    "join": lambda play, _: play.join(),
    "a stranger joins": lambda play, _: play.join(stranger=True),
    "cancel": lambda play, _: play.set_state("CANCELED"),
    "finish": lambda play, _: play.set_state("FINISHED"),
    "pause": lambda play, _: play.set_state("PAUSED"),
    "resume": lambda play, _: play.set_state("RUNNING"),
    "time passes": lambda play, _: play.let_time_pass(),
    "another server": lambda play, _: play.services.forget_engines(),
}


def is_done(run: Run) -> bool:
    """Whether a run has used up its point: it was started, stopped by a user, or failed to start."""
    return run.started_at is not None or run.stop_requested or run.state is RunState.FAILED


acts_of_all = st.lists(
    st.tuples(st.sampled_from([*ACTS, "beat", "beat", "begin"]), st.integers(0, 3)), max_size=40
)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """SQLite only: this test does not depend on the kind of database."""
    made = Services(tmp_path)
    yield made
    made.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=acts_of_all)
def test_each_point_of_a_grid_is_run_once_and_the_sweep_ends(
    services: Services, acts: list[tuple[str, int]]
) -> None:
    play = Play(services, services.sweep(grid(POINTS, early_terminate=RULE)))
    play.join()
    play.join(stranger=True)
    for act, number in acts:
        if not play.actors:
            play.join()
        if play.actors:
            ACTS[act](play, play.actors[number % len(play.actors)])
        elif act in ("resume", "time passes"):
            ACTS[act](play, Actor(""))
    play.finish()
    with services.world.database.read() as transaction:
        found = runs.of_sweep(transaction, play.sweep)
    assert Counter(run.assigned for run in found if is_done(run)) == {
        f'{{"x": {point}}}': 1 for point in range(POINTS)
    }
    assert [run.name for run in found if run.state in OPEN] == []
    assert services.state(play.sweep) == "FINISHED"
