"""Sweep configurations as the server reads them, prior runs, and the search engines of active sweeps.

Prior runs (`wandb.sweep(prior_runs=…)`) are runs of the project that a sweep starts with. As in W&B's
engine, bayes learns from those with a value, and a grid skips their points, whatever their outcome.

An engine is only a cache, updated from the database before each ask. The sweep's revision counter finds
the changes, also those of other processes, so an ask reads only new ones.

Grid and random answer within the transaction that issues the run. A model takes too long for that, as it
would block all other writes:

    transaction ─▶ AskFirstError ─▶ ask, outside ─▶ second transaction: the answer fits, and is issued
                         ▲───────────────────────── or another run was issued meanwhile
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, Final

import yaml

from parallel_hpo.config.checks import EarlyTerminate, HyperbandSettings
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Method, Metric, SweepConfiguration
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.values import dotted, find_value
from parallel_hpo.server.rules.early_stopping import EarlyStopRule, Hyperband
from parallel_hpo.server.rules.runs import OPEN, RunState
from parallel_hpo.server.search.engine import Engine, Trial, TrialState, make_engine, takes_long
from parallel_hpo.server.store import runs, sweeps
from parallel_hpo.server.store.database import Database, Transaction
from parallel_hpo.server.store.filters import matches, read_filters
from parallel_hpo.server.store.records import Run, Sweep
from parallel_hpo.server.values import RefusedError, read_object

_MAX_LENGTH = 2_000_000


def parse(text: str) -> SweepConfiguration:
    """Parse and check a sweep configuration, JSON or YAML; RefusedError says what is wrong with it."""
    try:
        return parse_sweep_configuration(_load(text), where="sweep configuration", at_server=True)
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    except RecursionError:
        raise RefusedError("the sweep configuration is nested too deeply") from None


@lru_cache(64)
def metric_of(text: str) -> Metric | None:
    """Return the metric that the sweep optimizes, or None."""
    return parse(text).metric


@dataclass(frozen=True, slots=True)
class StoppingRules:
    """A sweep's metric with its target, and its early-stop rule, if any."""

    metric: Metric
    rule: EarlyStopRule | None


@lru_cache(64)
def stopping(text: str) -> StoppingRules:
    """Return the stopping rules of a configuration with a metric."""
    configuration = parse(text)
    assert configuration.metric is not None
    return StoppingRules(configuration.metric, _rule(configuration.early_terminate))


def _rule(settings: EarlyTerminate | None) -> EarlyStopRule | None:
    match settings:
        case None:
            return None
        case HyperbandSettings():
            return Hyperband.of(settings)


@lru_cache(64)
def program_of(text: str) -> str | None:
    """Return the `program` for W&B's own agents, or None."""
    program = _load(text).get("program")
    return program if isinstance(program, str) else None


@lru_cache(256)
def name_of(text: str) -> str | None:
    """Return the configuration's name, or None."""
    name = _load(text).get("name")
    return name if isinstance(name, str) and name.strip() else None


def dotted_of(text: str) -> dict[str, Any]:
    """Return a configuration's values by dotted name."""
    return dict(dotted(_load(text)))


@lru_cache(64)
def is_scheduled(text: str) -> bool:
    """Return whether all runs come from a `wandb sweep-scheduler`."""
    return parse(text).scheduled


def expected_runs(text: str) -> int | None:
    """Return the maximum number of runs, by run_cap and search space; None: no limit."""
    limits = [limit for limit in (parse(text).run_cap, size_of(text)) if limit is not None]
    return min(limits, default=None)


def size_of(text: str) -> int | None:
    """Return the number of points of the search space; None: unlimited."""
    engine = _plain_engine(text)
    return None if engine is None else engine.size


def index_of(text: str, parameters: Mapping[str, Any]) -> int | None:
    """Return the index of the point with these parameters; None if the space is not countable."""
    engine = _plain_engine(text)
    return None if engine is None else engine.index(parameters)


@lru_cache(64)
def _plain_engine(text: str) -> Engine | None:
    """Return an engine without results, for facts about the space; None for a user's own scheduler."""
    configuration = parse(text)
    return None if configuration.method is Method.CUSTOM else make_engine(configuration, seed=0)


def _load(text: str) -> dict[str, Any]:
    if len(text) > _MAX_LENGTH:
        raise RefusedError(f"the sweep configuration is longer than {_MAX_LENGTH} characters")
    try:
        value = _read(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RefusedError(f"the sweep configuration is not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise RefusedError(f"the sweep configuration must be a mapping, not {type(value).__name__}")
    return value


def _read(text: str) -> object:
    try:
        return json.loads(text)  # first: YAML 1.1 reads JSON's 1e-05 as a string
    except ValueError:
        return yaml.load(text, Loader=_NoAliases)


class _NoAliases(yaml.SafeLoader):
    """A safe loader that refuses aliases, since they let a short text expand to a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


@dataclass(frozen=True, slots=True)
class PriorRun:
    """A prior run's parameters, and its metric's value or None."""

    parameters: dict[str, Any]
    value: float | None


def prior_runs(transaction: Transaction, sweep: Sweep) -> Iterator[Run]:
    """Yield a sweep's prior runs, whatever sweep the transaction is limited to."""
    if not sweep.prior_runs_filters:
        return
    filters = read_filters(sweep.prior_runs_filters)
    for run in runs.of_other_sweeps(transaction, sweep.project_id, sweep.id):
        if matches(run, filters):
            yield run


def prior_trials(
    transaction: Transaction, sweep: Sweep, configuration: SweepConfiguration
) -> Iterator[PriorRun]:
    """Yield the prior runs that have all of the sweep's parameters."""
    names = {parameter.path[0] for parameter in configuration.parameters}
    for run in prior_runs(transaction, sweep):
        parameters = _parameters(run, names)
        if parameters.keys() == names:
            yield PriorRun(parameters, _value(run, configuration))


def _value(run: Run, configuration: SweepConfiguration) -> float | None:
    metric = configuration.metric
    if metric is None:
        return None
    return find_value(read_object(run.summary, "summary"), metric.name, metric.goal)


def _parameters(run: Run, names: set[str]) -> dict[str, Any]:
    """Return the sweep's parameters in a run's configuration."""
    config = json.loads(run.config)
    entries = {name: config[name] for name in names if name in config}
    return {
        name: entry["value"]
        for name, entry in entries.items()
        if isinstance(entry, dict) and "value" in entry
    }


_MAX_ENGINES: Final = 64
_WANDB_ENGINE: Final = "wandb"
"""Value of the column `engine` for W&B's search engine, which an earlier release could run."""
Ingredients = tuple[str, str | None]
"""The inputs of an engine: configuration and filters of prior runs."""
Make = Callable[..., Engine]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A model's answer, from outside of any transaction."""

    sweep_id: str
    index: int
    made_of: Ingredients
    parameters: dict[str, Any] | None

    def fits(self, sweep: Sweep) -> bool:
        """Return whether it may be issued as the sweep's next run.

        It fits if no run was issued since the ask. Results since then are used from the next ask on.
        """
        now = (sweep.id, sweep.issued, _ingredients(sweep))
        return now == (self.sweep_id, self.index, self.made_of)


class AskFirstError(Exception):
    """The sweep's model must be asked for the next run, outside of the transaction."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"the search engine of sweep {sweep_id} must be asked first")
        self.sweep_id = sweep_id


@dataclass(slots=True)
class _Cached:
    engine: Engine
    made_of: Ingredients
    revision: int = 0
    tried: set[int] = field(default_factory=set)
    """The indices that a sweep with `next_index` skips."""

    def note(self, parameters: Mapping[str, Any]) -> None:
        """Add a run's point to the tried ones."""
        point = self.engine.index(parameters)
        if point is not None:
            self.tried.add(point)


class _Cache:
    """Engines by sweep, for one thread; the least recently used one is dropped, and rebuilt when needed."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._cached: OrderedDict[str, _Cached] = OrderedDict()

    def caught_up(self, transaction: Transaction, sweep: Sweep) -> _Cached:
        """Return the sweep's engine, updated with all changes in the database."""
        cached = self._cached.get(sweep.id)
        if cached is None or cached.made_of != _ingredients(sweep):
            cached = self._new(transaction, sweep)
            self._cached[sweep.id] = cached
        self._cached.move_to_end(sweep.id)
        for change in runs.changes_since(transaction, sweep.id, cached.revision):
            result = trial(change)
            cached.engine.tell(result)
            cached.note(result.parameters)
            cached.revision = change.revision
        while len(self._cached) > _MAX_ENGINES:
            self._cached.popitem(last=False)
        return cached

    def forget(self, sweep_id: str) -> None:
        """Drop an engine."""
        self._cached.pop(sweep_id, None)

    def _new(self, transaction: Transaction, sweep: Sweep) -> _Cached:
        """Return a new engine that knows the sweep's prior runs."""
        configuration = parse(sweep.config)
        cached = _Cached(self._make(configuration, seed=sweep.seed), _ingredients(sweep))
        for number, prior in enumerate(prior_trials(transaction, sweep, configuration), 1):
            cached.note(prior.parameters)
            if prior.value is not None:
                # Negative indices: the sweep's own runs count from 0.
                cached.engine.tell(Trial(-number, prior.parameters, TrialState.FINISHED, prior.value))
        return cached


class Engines:
    """The engines of all sweeps: `suggest` runs in the database's thread, `ask` in the models' thread."""

    def __init__(self, make: Make = make_engine) -> None:
        self._quick = _Cache(make)
        self._models = _Cache(make)

    def suggest(
        self, transaction: Transaction, sweep: Sweep, asked: Suggestion | None = None
    ) -> dict[str, Any] | None:
        """Return the parameters of the sweep's next run, or None if its space is used up.

        AskFirstError if its model must be asked first, since `asked` doesn't fit.
        """
        expect_our_engine(sweep)
        if takes_long(sweep.method):
            if asked is None or not asked.fits(sweep):
                raise AskFirstError(sweep.id)
            return asked.parameters
        cached = self._quick.caught_up(transaction, sweep)
        if sweep.next_index is None:
            return cached.engine.ask(sweep.issued)
        index = next(index for index in count(sweep.next_index) if index not in cached.tried)
        sweeps.change(transaction, sweep.id, {"next_index": index})
        return cached.engine.ask(index)

    def ask(self, database: Database, sweep_id: str) -> Suggestion | None:
        """Ask a sweep's model for its next run, with no transaction open; None for an unknown sweep."""
        with database.read() as transaction:
            sweep = sweeps.find(transaction, sweep_id)
            if sweep is None:
                return None
            cached = self._models.caught_up(transaction, sweep)
        return Suggestion(sweep.id, sweep.issued, cached.made_of, cached.engine.ask(sweep.issued))

    def forget(self, sweep_id: str) -> None:
        """Drop an engine that may know changes which were rolled back; a model never does."""
        self._quick.forget(sweep_id)


def _ingredients(sweep: Sweep) -> Ingredients:
    return sweep.config, sweep.prior_runs_filters


def expect_our_engine(sweep: Sweep) -> None:
    """Raise RefusedError (400) for a sweep that was created for W&B's search engine."""
    if sweep.engine == _WANDB_ENGINE and sweep.method == Method.BAYES:
        raise RefusedError(
            f'sweep {sweep.id} was created with engine "wandb", which parallel_hpo no longer runs: create a'
            " new sweep, and run `wandb sweep-scheduler` of your own for W&B's engine",
            status=400,
        )


def trial(change: runs.Change) -> Trial:
    """Return a run's change as a trial; a run that was stopped early keeps its value until then."""
    if change.state in OPEN or change.state is RunState.PREEMPTED:
        state = TrialState.PENDING
    elif change.value is not None:
        state = TrialState.FINISHED
    else:
        state = TrialState.FAILED
    return Trial(change.index, json.loads(change.assigned), state, change.value, change.stopped_at)
