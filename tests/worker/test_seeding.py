"""Random numbers of runs, with and without a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from parallel_hpo.worker.agent import (
    SEED_VARIABLE,
    read_index,
    read_parameters,
    seed_random,
    write_parameters,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The file of a run's parameters; this process is restored."""
    made, state, arrays = tmp_path / "config-r.yaml", random.getstate(), numpy.random.get_state()
    write_parameters(made, {"lr": 0.1})
    os.environ["WANDB_SWEEP_PARAM_PATH"] = str(made)
    yield made
    for name in ("WANDB_SWEEP_PARAM_PATH", SEED_VARIABLE):
        os.environ.pop(name, None)
    random.setstate(state)
    numpy.random.set_state(arrays)


def drawn(seed: int | None) -> tuple[float, float]:
    seed_random(seed)
    return random.random(), float(numpy.random.random())


def test_equal_seeds_give_equal_random_numbers(file: Path) -> None:
    assert drawn(3) == drawn(3)
    assert set(drawn(3)) & set(drawn(4)) == set()
    assert os.environ[SEED_VARIABLE] == "4"


def test_random_numbers_differ_without_a_seed(file: Path) -> None:
    assert set(drawn(None)) & set(drawn(None)) == set()
    assert SEED_VARIABLE not in os.environ


def test_a_named_seed_is_a_parameter(file: Path) -> None:
    seed_random(3)
    assert read_parameters(os.environ) == {"lr": 0.1}
    seed_random(3, parameter="seed")
    assert read_parameters(os.environ) == {"lr": 0.1, "seed": 3}


def test_a_runs_index_is_not_one_of_its_parameters(file: Path) -> None:
    assert read_index(os.environ) is None
    file.write_text("wandb_version: 1\n\nlr:\n  value: 0.1\n  place: 4\n")
    assert (read_index(os.environ), read_parameters(os.environ)) == (4, {"lr": 0.1})
