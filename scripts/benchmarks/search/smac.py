"""SMAC3 as a player: its facade for hyperparameters, asked for configurations and told their losses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import Any

from scripts.benchmarks.search.problems import Point, Problem, is_ordered, seen_loss


def play_smac(problem: Problem, seed: int, runs: int, at_once: int) -> Iterator[Point]:
    """Yield the points of SMAC3; with noise, it may try a point again."""
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.runhistory.dataclasses import TrialValue

    with TemporaryDirectory() as folder:
        scenario = Scenario(
            _space(problem),
            n_trials=runs,
            seed=seed,
            deterministic=not problem.noise,
            output_directory=folder,
        )
        search = Facade(scenario, logging_level=False, overwrite=True)
        for first in range(0, runs, at_once):
            with warnings.catch_warnings(action="ignore"):  # of means of nothing
                asked = [search.ask() for _ in range(min(at_once, runs - first))]
            for index, trial in enumerate(asked, first):
                values = dict(trial.config)
                point = {name: values[name] for name in problem.parameters if name in values}
                yield point
                search.tell(trial, TrialValue(seen_loss(problem, point, seed, index)))


def _space(problem: Problem) -> Any:
    from ConfigSpace import ConfigurationSpace, InCondition

    space = ConfigurationSpace()
    parameters = {name: _parameter(name, spec) for name, spec in problem.parameters.items()}
    space.add(parameters.values())
    space.add(
        InCondition(parameters[name], parameters[other], list(values))
        for name, (other, values) in problem.only_if.items()
    )
    return space


def _parameter(name: str, spec: Mapping[str, Any]) -> Any:
    from ConfigSpace import CategoricalHyperparameter, Float, Integer, OrdinalHyperparameter

    if "values" in spec:
        kind = OrdinalHyperparameter if is_ordered(spec["values"]) else CategoricalHyperparameter
        return kind(name, spec["values"])
    kind = Integer if isinstance(spec["min"], int) else Float
    return kind(name, (spec["min"], spec["max"]), log="distribution" in spec)
