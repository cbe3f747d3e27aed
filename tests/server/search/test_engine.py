"""The engine interface: each method has its engine, and light ones import nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.engine import Trial, TrialState, make_engine


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_each_method_suggests_and_can_be_told(method: str) -> None:
    configuration = {
        "method": method,
        "metric": {"name": "loss"},
        "parameters": {"models": {"parameters": {"X": {"parameters": {"epochs": {"values": [3]}}}}}},
    }
    engine = make_engine(parse_sweep_configuration(configuration, where="sweep"), seed=1)
    asked = engine.ask(0)
    assert asked == {"models": {"X": {"epochs": 3}}}
    engine.tell(Trial(0, asked, TrialState.FINISHED, 1.0))
    assert engine.ask(1) == (None if method == "grid" else asked)


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_only_a_method_that_repeats_nothing_has_a_size_and_a_place_for_each_point(method: str) -> None:
    configuration = {
        "method": method,
        "metric": {"name": "loss"},
        "parameters": {"x": {"values": [3, 4]}, "y": {"values": [5, 6, 7]}},
    }
    engine = make_engine(parse_sweep_configuration(configuration, where="sweep"), seed=1)
    ends = method == "grid"
    assert engine.size == (6 if ends else None)
    assert engine.index({"x": 4, "y": 6}) == (4 if ends else None)
    assert engine.index({"x": 4, "y": 8}) is None


def test_models_are_not_imported_before_they_are_needed() -> None:
    heavy = ("numpy", "optuna", "scipy", "sklearn")
    code = f"import sys, parallel_hpo.server.search.engine; print(*(set({heavy}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []
