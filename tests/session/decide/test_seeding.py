"""Each run's own seed: its value, and that it stays the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import Proceed, RunStarted
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.session.decide.deaths import on_death
from parallel_hpo.session.decide.decide import on_delivered, on_granted, on_run_started
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Delivered, Died, Send, StartGranted
from parallel_hpo.session.decide.state import Limits, SweepView, open_view
from parallel_hpo.session.decide.stopping import SEEDS, index_from, seed_of

S0 = Slot(0)
NEW = RunStarted(RunId("r"), {"x": 1}, 1, index=4)


def leased(seed: int | None) -> SweepView:
    view = open_view(Limits(seed=seed), 1)
    return replace(view, slots=(replace(view.slots[0], state=SlotState.RUNNING, busy=True, lease_left=3),))


def started(draft: Draft) -> int | None:
    """Return the seed with which a granted run enters `main`."""
    on_granted(draft, StartGranted(S0, NEW.run_id))
    (seed,) = [a.order.seed for a in draft.actions if isinstance(a, Send) and isinstance(a.order, Proceed)]
    return seed


@given(st.integers(0, 2**63 - 1), st.sets(st.integers(0, 10**9), max_size=50))
def test_no_two_runs_of_a_sweep_have_the_same_seed(sweep_seed: int, places: set[int]) -> None:
    seeds = {seed_of(sweep_seed, place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < SEEDS for seed in seeds)


def test_sweeps_with_different_seeds_give_their_runs_different_seeds() -> None:
    first, second = ([seed_of(sweep, place) for place in range(20)] for sweep in (7, 8))
    assert set(first) & set(second) == set()


def test_seeds_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Users note seeds and compare runs by them: a new version must not draw other ones."""
    assert [seed_of(7, place) for place in range(3)] == [1680640654, 40109119, 547061232]


def test_without_server_indices_runs_with_equal_parameters_have_different_indices() -> None:
    assert index_from({"a": 1, "b": 2}, 0) == index_from({"b": 2, "a": 1}, 0)
    assert len({index_from({"a": 1}, 0), index_from({"a": 1}, 1), index_from({"a": 2}, 0)}) == 3


def test_a_run_gets_the_seed_of_its_index_and_keeps_it_in_its_next_attempt() -> None:
    draft = Draft(leased(7), 10.0)
    on_run_started(draft, draft.slot(S0), NEW)
    assert started(draft) == seed_of(7, 4)
    on_death(draft, Died(S0, "SIGKILL"))
    (again,) = draft.view.reruns
    assert (again.attempt, again.seed) == (2, seed_of(7, 4))


def test_a_run_delivered_again_has_its_recorded_seed() -> None:
    draft = Draft(leased(7), 10.0)
    on_delivered(draft, Delivered(S0, NEW, attempts=1, outcome=None, seed=99))
    assert started(draft) == 99


def test_a_run_of_a_sweep_without_a_seed_has_none() -> None:
    draft = Draft(leased(None), 10.0)
    on_run_started(draft, draft.slot(S0), NEW)
    assert started(draft) is None
