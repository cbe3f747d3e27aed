"""What machines are given: the section's part that concerns them, `main`, and how to take part."""

from __future__ import annotations

import pickle
import stat
from base64 import b64decode
from contextlib import closing
from pathlib import Path

import pytest

from parallel_hpo.cluster.base import ClusterMachine, open_file
from parallel_hpo.cluster.session import (
    PoolAddress,
    facts_with_pool,
    how_to_join,
    node_command,
    section_of_nodes,
    write_key,
)
from parallel_hpo.config.section import parse_section
from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.pool_messages import NewPool, Versions
from parallel_hpo.core.types import Target
from parallel_hpo.pickling.payload import MOST_MAIN_BYTES, from_text, to_text
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.signals import Control

HERE = PoolAddress("http://10.0.0.1:5000", "secret", is_apart=False)
APART = PoolAddress("http://10.0.0.1:5000", "secret", is_apart=True, login={"WANDB_API_KEY": "own"})


def test_machines_get_the_keys_that_were_given_and_that_concern_them() -> None:
    given = {
        "sweep_id": "abc",
        "count": 8,
        "workers": 2,
        "retries": 3,
        "notify": ["json://x"],
        "machines": {"engine": "ray"},
        "failures": {"max_total": 9},
    }
    section = parse_section(given, origin=lambda key: "test")
    told = section_of_nodes(section)
    assert told == {"workers": 2, "retries": 3, "failures": {"max_total": 9}}


def test_a_ledger_without_a_count_takes_it_from_the_pool_of_the_sweep() -> None:
    known = NewPool(
        path="e/p/s", backend="local", url="", count=8, node_timeout_s=300.0, section={},
        versions=Versions("3.11", "0.28", "0.1"), has_coordinator=True,
    )  # fmt: skip
    assert facts_with_pool({}, known, 12) == {"count": 8, "count_given": False}
    assert facts_with_pool({"count": 3}, known, 12) == {"count": 3}


def test_a_main_travels_as_text() -> None:
    target = Target("train", "main", ("--fast",))
    assert pickle.loads(b64decode(to_text(target))) == target
    assert from_text(to_text(target)) == target


def test_a_main_that_holds_its_data_is_refused_before_anything_starts() -> None:
    with pytest.raises(TargetError, match="let it read its data itself"):
        to_text(PickledMain(b"", size=MOST_MAIN_BYTES + 1))


def test_the_command_to_join_has_no_key_in_it(tmp_path: Path) -> None:
    file = write_key(tmp_path / "abc", "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert how_to_join("abc", HERE, file) == (
        f"WANDB_BASE_URL=http://10.0.0.1:5000 WANDB_API_KEY=$(cat {file}) parallel-hpo join abc"
    )
    assert how_to_join("abc", APART, file) == (
        f"PARALLEL_HPO_POOL_URL=http://10.0.0.1:5000 PARALLEL_HPO_POOL_KEY=$(cat {file})"
        " parallel-hpo join abc"
    )


def test_a_node_has_its_keys_in_its_environment_and_in_no_command_line() -> None:
    command = node_command("abc", APART, ClusterMachine("gpu1", "tcp://gpu1"), "0badf00d", grace_s=30.0)
    assert command.arguments == ("-m", "parallel_hpo", "join", "abc", "--name", "gpu1", "--once")
    assert command.variables == {
        "WANDB_API_KEY": "own",
        "PARALLEL_HPO_POOL_URL": "http://10.0.0.1:5000",
        "PARALLEL_HPO_POOL_KEY": "secret",
        "PARALLEL_HPO_NODE": "0badf00d",
        "PARALLEL_HPO_HEAD_STDERR": open_file(2),
    }


@pytest.mark.parametrize(
    ("deadline", "told"),
    [("1h", "1970-01-01 01:13:20.000+00:00"), ("2026-12-24 18:00+00:00", "2026-12-24T18:00:00+00:00")],
)
def test_machines_get_a_duration_as_the_moment_counted_from_the_launch(deadline: str, told: str) -> None:
    """The launch began 200 s before second 1000, at which the pool is made."""
    section = parse_section({"sweep_id": "abc", "deadline": deadline}, origin=lambda key: "test")
    with closing(Control(lambda: 300.0)) as control:
        setting = LaunchSettings(
            section=section,
            main=Target("train", "main"),
            observer=lambda notice: None,
            control=control,
            owner_id="m",
            began=100.0,
        )
        assert setting.deadline_for_machines(1000.0) == told
