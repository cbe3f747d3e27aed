"""A sweep's engine, the settings of its machines, and a stop while the pool is opened."""

from __future__ import annotations

import stat
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import pytest

from parallel_hpo.client.base import OpenedSweep
from parallel_hpo.cluster.base import ClusterMachine, open_file
from parallel_hpo.cluster.hosted import ClusterChoice, chosen_engine
from parallel_hpo.cluster.session import (
    PoolAddress,
    facts_with_pool,
    how_to_join,
    new_pool,
    node_command,
    section_of_nodes,
    write_key,
)
from parallel_hpo.cluster.setup import run_on_cluster
from parallel_hpo.config.section import BackendChoice, HpoSection, parse_section
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import ExitCode, TargetError, UsageError
from parallel_hpo.core.pool_messages import NewPool, Versions
from parallel_hpo.core.types import StopKind, SweepId, SweepPath, Target
from parallel_hpo.core.values import is_duration
from parallel_hpo.count.policy import Launch
from parallel_hpo.pickling.payload import MOST_MAIN_BYTES, to_text
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.signals import Control
from tests.cluster.pools import RecordedPool, news
from tests.conftest import make_clean_env
from tests.processes.conftest import MAINS, RANDOM


def machines(**keys: object) -> Machines:
    return Machines.model_validate(keys)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_sweep_uses_one_machine_unless_an_engine_is_chosen(backend: str) -> None:
    with joblib.parallel_config(backend=backend):
        assert chosen_engine(None) is None
        assert chosen_engine(machines(node_timeout_s=20)) is None


def test_the_machines_section_chooses_the_engine() -> None:
    assert chosen_engine(machines(engine="ray")) == ClusterChoice(MachineEngine.RAY)
    dask = machines(engine="dask", address="tcp://there:8786", count=3)
    assert chosen_engine(dask) == ClusterChoice(MachineEngine.DASK, "tcp://there:8786", 3)
    assert chosen_engine(machines(engine="slurm", count=2)) == ClusterChoice(MachineEngine.SLURM, count=2)


def test_an_address_for_slurm_is_refused_and_the_alternative_is_named() -> None:
    with pytest.raises(UsageError, match="'gpu'; srun's own variables"):
        chosen_engine(machines(engine="slurm", address="gpu"))


def test_joblibs_ray_backend_chooses_ray() -> None:
    joblib_of_ray = pytest.importorskip("ray.util.joblib", reason="Ray is not installed")
    joblib_of_ray.register_ray()
    with joblib.parallel_config(backend="ray"):
        assert chosen_engine(None) == ClusterChoice(MachineEngine.RAY)
        assert chosen_engine(machines(engine="slurm", count=2)) == ClusterChoice(MachineEngine.SLURM, count=2)
    assert chosen_engine(None) is None


APART = PoolAddress("http://10.0.0.1:5000", "secret", is_apart=True, login={"WANDB_API_KEY": "own"})


def test_machines_get_the_given_keys_that_concern_them() -> None:
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


def test_a_pickled_main_above_the_size_limit_is_refused() -> None:
    with pytest.raises(TargetError, match="let it read its data itself"):
        to_text(PickledMain(b"", size=MOST_MAIN_BYTES + 1))


def test_the_join_command_contains_no_key(tmp_path: Path) -> None:
    file = write_key(tmp_path / "abc", "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert how_to_join("abc", replace(APART, is_apart=False, login={}), file) == (
        f"WANDB_BASE_URL=http://10.0.0.1:5000 WANDB_API_KEY=$(cat {file}) parallel-hpo join abc"
    )
    assert how_to_join("abc", APART, file) == (
        f"PARALLEL_HPO_POOL_URL=http://10.0.0.1:5000 PARALLEL_HPO_POOL_KEY=$(cat {file})"
        " parallel-hpo join abc"
    )


def test_a_nodes_keys_are_in_its_environment_and_not_on_its_command_line() -> None:
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
def test_machines_get_a_relative_deadline_as_a_time_counted_from_the_launch(deadline: str, told: str) -> None:
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
        opened = OpenedSweep(SweepPath("e", "p", SweepId("abc")), "", {})
        make = partial(new_pool, setting, opened, 3, is_apart=False, node_timeout_s=300.0)
        pooled, own = (make(has_coordinator=led).section["deadline"] for led in (True, False))
        assert (is_duration(str(pooled)), own) == (False, section.deadline), "its machines join later"


class SilentPool(RecordedPool):
    """A pool that does not answer, until its waiter has been stopped twice."""

    def __init__(self, control: Control) -> None:
        super().__init__([news()])
        self._control = control
        self.over = threading.Event()

    def facts(self) -> NewPool | None:
        for _ in range(2):
            self._control.put(StopAsked(StopKind.INTERRUPT, "SIGINT", ExitCode.RESUMABLE))
        self.over.wait()
        return None


def test_two_stops_end_a_launch_whose_pool_does_not_answer(tmp_path: Path) -> None:
    section = HpoSection(
        sweep_configuration=RANDOM, directory=tmp_path / "sweeps", backend=BackendChoice.LOCAL
    )
    with closing(Control()) as control:
        pool = SilentPool(control)
        try:
            result = run_on_cluster(
                section,
                Target(str(MAINS), "quick"),
                observer=lambda notice: None,
                control=control,
                launch=Launch(),
                machines=Machines(),
                make_engine=None,
                make_pool_client=lambda url, key, sweep: pool,
                environment=make_clean_env(tmp_path / "home"),
            )
        finally:
            pool.over.set()
    assert (result.exit_code, result.stop_reason) == (ExitCode.RESUMABLE, "SIGINT before the sweep was open")
