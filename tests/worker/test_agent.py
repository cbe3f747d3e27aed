"""A run's parameters in the file that the agent writes for `wandb.init`, and its random numbers."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wandb.sdk.lib import config_util
from wandb.util import load_yaml

from parallel_hpo.worker.agent import (
    SEED_VARIABLE,
    read_index,
    read_parameters,
    seed_random,
    write_parameters,
)

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # YAML's line breaks are no part of a parameter that wandb itself could pass on.
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(st.text("abc_./", min_size=1, max_size=6), VALUES, max_size=4)

TRICKY: dict[str, Any] = {
    "lr": 1e-05,
    "large": 1e16,
    "small": 5e-324,
    "word": "1e-05",
    "answer": "yes",
    "date": "2024-01-01",
    "octal": "010",
    "nested": {"layers": [1, 2.5, None], "name": "π: "},
}
"""Values that YAML and JSON read differently."""


def as_the_agent_writes(path: Path, parameters: dict[str, Any]) -> None:
    save: Any = config_util.save_config_file_from_dict
    save(str(path), {name: {"value": value} for name, value in parameters.items()})


@given(PARAMETERS)
@example(TRICKY)
def test_parameters_are_read_as_the_agent_wrote_them(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "config-run.yaml")
        as_the_agent_writes(path, parameters)
        assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == parameters


@given(PARAMETERS)
@example(TRICKY)
def test_wandb_and_we_read_the_parameters_of_another_attempt(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "wandb", "sweep-abc", "config-run.yaml")
        write_parameters(path, parameters)
        read = load_yaml(path.read_text())
        assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == parameters
    assert read.pop("wandb_version") == 1
    assert {name: entry["value"] for name, entry in read.items()} == parameters


def test_there_are_no_parameters_without_the_agents_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_parameters({"WANDB_SWEEP_PARAM_PATH": str(tmp_path / "nothing.yaml")})


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
