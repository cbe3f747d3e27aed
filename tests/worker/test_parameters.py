"""A run's parameters in the file that the agent writes for `wandb.init`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wandb.sdk.lib import config_util
from wandb.util import load_yaml

from parallel_hpo.worker.agent import read_parameters, write_parameters

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
def test_wandb_reads_the_parameters_of_another_attempt(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "config-run.yaml")
        write_parameters(path, parameters)
        read = load_yaml(path.read_text())
    assert read.pop("wandb_version") == 1
    assert {name: entry["value"] for name, entry in read.items()} == parameters


@given(PARAMETERS)
def test_parameters_of_a_second_attempt_can_be_written_again(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "config-run.yaml")
        write_parameters(path, parameters)
        assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == parameters


def test_the_files_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "wandb" / "sweep-abc" / "config-run.yaml"
    write_parameters(path, {"lr": 0.1})
    assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == {"lr": 0.1}


def test_there_are_no_parameters_without_the_agents_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_parameters({"WANDB_SWEEP_PARAM_PATH": str(tmp_path / "nothing.yaml")})
