"""The search engines of the sweeps at hand, each caught up from the database before it is asked.

An engine is only a cache: whichever process holds it, it is told what others wrote
by the sweep's revision counter, so that an ask costs what is new, not all there is.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from parallel_hpo.config.sweep_words import EngineChoice, Method
from parallel_hpo.errors import ConfigError
from parallel_hpo.search.engine import Engine, Trial, TrialState, make_engine
from parallel_hpo.search.grid import GridEngine
from parallel_hpo.search.wandb_process import WandbProcess, require_wandb_engine
from parallel_hpo.server.configurations import parse
from parallel_hpo.server.prior_runs import prior_trials
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.run_states import OPEN, RunState
from parallel_hpo.server.store import runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Sweep

_KEPT: Final = 64


@dataclass(slots=True)
class _Cached:
    engine: Engine
    made_of: tuple[str, str | None]
    """The configuration and the prior runs."""
    revision: int = 0
    tried: set[int] = field(default_factory=set)
    """The points that a grid with `next_index` passes over."""

    def note(self, parameters: Mapping[str, Any]) -> None:
        """Take note of a run with these parameters."""
        point = self.engine.index(parameters) if isinstance(self.engine, GridEngine) else None
        if point is not None:
            self.tried.add(point)


class Engines:
    """Engines by sweep; the least recently used is dropped, to be rebuilt when it is needed again."""

    def __init__(self) -> None:
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        self._wandb = WandbProcess()

    def prepare(self, sweep: Sweep) -> None:
        """Get ready for a sweep's first ask; RefusedError (400) where its engine is not installed here."""
        if not _by_wandb(sweep):
            return
        try:
            require_wandb_engine()
        except ConfigError as error:
            raise RefusedError(f"sweep {sweep.id}: {error}", status=400) from None
        self._wandb.prepare()

    def close(self) -> None:
        """End what engines have started."""
        self._wandb.close()

    def suggest(self, transaction: Transaction, sweep: Sweep) -> dict[str, Any] | None:
        """Return the parameters of the sweep's next run, or None where its space is used up."""
        cached = self._caught_up(transaction, sweep)
        if sweep.next_index is None:
            return cached.engine.ask(sweep.issued)
        index = next(index for index in count(sweep.next_index) if index not in cached.tried)
        sweeps.change(transaction, sweep.id, {"next_index": index})
        return cached.engine.ask(index)

    def forget(self, sweep_id: str) -> None:
        """Drop an engine that was told of changes which were then rolled back."""
        self._cached.pop(sweep_id, None)

    def _caught_up(self, transaction: Transaction, sweep: Sweep) -> _Cached:
        cached = self._cached.get(sweep.id)
        if cached is None or cached.made_of != _ingredients(sweep):
            cached = self._new(transaction, sweep)
            self._cached[sweep.id] = cached
        self._cached.move_to_end(sweep.id)
        for change in runs.changes_since(transaction, sweep.id, cached.revision):
            told = trial(change)
            cached.engine.tell(told)
            cached.note(told.parameters)
            cached.revision = change.revision
        while len(self._cached) > _KEPT:
            self._cached.popitem(last=False)
        return cached

    def _new(self, transaction: Transaction, sweep: Sweep) -> _Cached:
        """Return a new engine that knows the runs which the sweep was given as a start."""
        configuration = parse(sweep.config)
        wandb = self._wandb if _by_wandb(sweep) else None
        cached = _Cached(make_engine(configuration, seed=sweep.seed, wandb=wandb), _ingredients(sweep))
        for number, prior in enumerate(prior_trials(transaction, sweep, configuration), 1):
            cached.note(prior.parameters)
            if prior.value is not None:
                # They have no place in the space: the sweep's own runs count from 0.
                cached.engine.tell(Trial(-number, prior.parameters, TrialState.FINISHED, prior.value))
        return cached


def _ingredients(sweep: Sweep) -> tuple[str, str | None]:
    return sweep.config, sweep.prior_runs_filters


def _by_wandb(sweep: Sweep) -> bool:
    return sweep.engine == EngineChoice.WANDB and sweep.method == Method.BAYES


def trial(change: runs.Change) -> Trial:
    """Put a run's state into the search's words: one stopped early has the value that it reached by then."""
    if change.state in OPEN or change.state is RunState.PREEMPTED:
        state = TrialState.PENDING
    elif change.value is not None:
        state = TrialState.FINISHED
    else:
        state = TrialState.FAILED
    return Trial(change.index, json.loads(change.assigned), state, change.value, change.stopped_at)
