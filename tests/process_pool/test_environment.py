from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Slot, SweepId
from parallel_hpo.processes.environment import LEAKED, THREAD_CAPS, base_environment, worker_environment

CAPS = set(THREAD_CAPS)


def own_environment(base: Mapping[str, str], client: Mapping[str, str] | None = None) -> dict[str, str]:
    return worker_environment(
        base,
        client or {},
        slot=Slot(2),
        workers=4,
        sweep_id=SweepId("abc"),
        wandb_dir="/data/abc/worker-2",
    )


@pytest.mark.parametrize("name", LEAKED)
def test_a_parents_own_run_or_job_does_not_leak(name: str) -> None:
    base = base_environment({name: "parent's", "PATH": "/bin"}, cores=4, workers=2)
    assert name not in base
    assert base["PATH"] == "/bin"


def test_the_seed_of_a_sweep_is_not_taken_for_a_runs_own() -> None:
    assert base_environment({"PARALLEL_HPO_SEED": "7"}, cores=4, workers=2).keys() == set(THREAD_CAPS)


@pytest.mark.parametrize(("cores", "workers", "cap"), [(8, 2, "4"), (7, 2, "3"), (2, 8, "1"), (4, 4, "1")])
def test_threads_are_capped_at_the_cores_of_one_worker(cores: int, workers: int, cap: str) -> None:
    base = base_environment({}, cores=cores, workers=workers)
    assert base == dict.fromkeys(THREAD_CAPS, cap)


@pytest.mark.parametrize("name", THREAD_CAPS)
def test_a_cap_that_the_user_set_stays(name: str) -> None:
    base = base_environment({name: "16"}, cores=8, workers=2)
    assert base[name] == "16"
    assert {base[other] for other in CAPS - {name}} == {"4"}


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_everything_else_of_the_parents_is_passed_on(parent: dict[str, str]) -> None:
    base = base_environment(parent, cores=1, workers=1)
    assert {**base, **parent} == {**dict.fromkeys(THREAD_CAPS, "1"), **parent}


def test_a_worker_finds_its_facts() -> None:
    assert own_environment({"PATH": "/bin"}) == {
        "PATH": "/bin",
        "WANDB_INIT_TIMEOUT": "86400",
        "WANDB_DIR": "/data/abc/worker-2",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PARALLEL_HPO_SWEEP_ID": "abc",
        "PARALLEL_HPO_WORKER": "2",
        "PARALLEL_HPO_WORKERS": "4",
        "PARALLEL_HPO_DEVICE": "cpu",
    }


def test_a_client_waits_for_a_server_that_is_away_as_long_as_the_user_says() -> None:
    assert float(own_environment({})["WANDB_INIT_TIMEOUT"]) >= 3600
    assert own_environment({"WANDB_INIT_TIMEOUT": "5"})["WANDB_INIT_TIMEOUT"] == "5"


def test_what_its_client_needs_takes_the_place_of_the_users() -> None:
    own = own_environment({"WANDB_BASE_URL": "https://elsewhere"}, {"WANDB_BASE_URL": "http://here"})
    assert own["WANDB_BASE_URL"] == "http://here"


def test_its_facts_take_the_place_of_what_the_user_set() -> None:
    own = own_environment({"WANDB_DIR": "/home/user", "PARALLEL_HPO_WORKER": "9"})
    assert own["WANDB_DIR"] == "/data/abc/worker-2"
    assert own["PARALLEL_HPO_WORKER"] == "2"
