from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Slot, SweepId
from parallel_hpo.processes.environment import (
    LEAKED,
    PER_WORKER,
    SPARE,
    THREAD_CAPS,
    base_environment,
    count_open,
    soft_limit_for,
    worker_environment,
)


def own_environment(base: Mapping[str, str], client: Mapping[str, str] | None = None) -> dict[str, str]:
    return worker_environment(
        base, client or {}, slot=Slot(2), workers=4, sweep_id=SweepId("abc"), wandb_dir="/data/abc/worker-2"
    )


@pytest.mark.parametrize("name", [*LEAKED, "PARALLEL_HPO_SEED"])
def test_a_parents_run_job_and_seed_variables_do_not_leak(name: str) -> None:
    base = base_environment({name: "parent's", "PATH": "/bin"}, cores=4, workers=2)
    assert base == dict.fromkeys(THREAD_CAPS, "2") | {"PATH": "/bin"}


@pytest.mark.parametrize(("cores", "workers", "cap"), [(8, 2, "4"), (7, 2, "3"), (2, 8, "1"), (4, 4, "1")])
def test_threads_are_capped_at_the_cores_of_one_worker_unless_the_user_sets_a_cap(
    cores: int, workers: int, cap: str
) -> None:
    caps = dict.fromkeys(THREAD_CAPS, cap)
    assert base_environment({}, cores=cores, workers=workers) == caps
    for name in THREAD_CAPS:
        assert base_environment({name: "16"}, cores=cores, workers=workers) == caps | {name: "16"}


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_all_other_variables_of_the_parent_are_passed_on(parent: dict[str, str]) -> None:
    base = base_environment(parent, cores=1, workers=1)
    assert {**base, **parent} == {**dict.fromkeys(THREAD_CAPS, "1"), **parent}


def test_a_worker_gets_the_variables_that_describe_it() -> None:
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


def test_worker_and_client_variables_override_the_users_except_for_the_init_timeout() -> None:
    users = {"WANDB_DIR": "/home/user", "PARALLEL_HPO_WORKER": "9", "WANDB_BASE_URL": "https://elsewhere"}
    own = own_environment(users | {"WANDB_INIT_TIMEOUT": "5"}, {"WANDB_BASE_URL": "http://here"})
    assert own["WANDB_DIR"] == "/data/abc/worker-2"
    assert own["PARALLEL_HPO_WORKER"] == "2"
    assert own["WANDB_BASE_URL"] == "http://here"
    assert own["WANDB_INIT_TIMEOUT"] == "5"


INFINITY = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        (1024, INFINITY, 1024),
        (INFINITY, INFINITY, INFINITY),
        (256, 4096, 10 + SPARE + 64 * PER_WORKER),
        (256, INFINITY, 10 + SPARE + 64 * PER_WORKER),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed(soft: int, hard: int, limit: int) -> None:
    assert soft_limit_for(64, already_open=10, soft=soft, hard=hard) == limit


def test_too_low_a_hard_limit_raises_an_error_that_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"64 workers need \d+ open files, .* 256 .*lower hpo\.workers"):
        soft_limit_for(64, already_open=10, soft=128, hard=256)


def test_open_files_are_counted() -> None:
    before = count_open()
    reader, writer = os.pipe()
    assert count_open() == before + 2
    os.close(reader)
    os.close(writer)


def test_the_limit_of_the_process_is_raised() -> None:
    program = (
        "import resource\n"
        "from parallel_hpo.processes.environment import make_room_for\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "make_room_for(20)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100
