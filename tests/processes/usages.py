"""Ways in which a `main` may use wandb, or spoil the process that it shares with wandb: `use` is the `main`.

`tests/processes/test_death_matrix.py` says what each counts as. Imported by workers,
so nothing of the tests is imported here.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import psutil
import wandb
import yaml

HARMLESS_USER = 65534
"""nobody; only root may become it."""


def use() -> None:
    """Do what the run's parameter says, and log a value to whatever run that has opened."""
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    USAGES[parameters["death"]["value"]]()


def logging_to(open_run: Callable[[], wandb.Run]) -> Callable[[], None]:
    """Return a usage that opens the run so."""

    def usage() -> None:
        open_run().log({"loss": 1.0})

    return usage


def opened(**keys: Any) -> Callable[[], None]:
    """Return a usage that opens the run with these arguments."""
    return logging_to(lambda: wandb.init(**keys))


def spoiling(spoil: Callable[[], object]) -> Callable[[], None]:
    """Return a usage that logs, and then spoils something."""

    def usage() -> None:
        wandb.init().log({"loss": 1.0})
        spoil()

    return usage


def init_offline_by_setup() -> wandb.Run:
    wandb.setup(wandb.Settings(mode="offline"))
    return wandb.init()


def init_offline_by_environment() -> wandb.Run:
    os.environ["WANDB_MODE"] = "offline"
    wandb.teardown()  # else the client has read its settings already
    return wandb.init()


def init_as_somebody() -> wandb.Run:
    wandb.login(key="0" * 40)
    return wandb.init()


def open_two_after_each_other() -> None:
    for _ in range(2):
        wandb.init().log({"loss": 1.0})
        wandb.finish()


def init_and_keep() -> wandb.Run:
    run = wandb.init(reinit="create_new")
    vars(sys)["kept"] = run
    return run


def preempt() -> NoReturn:
    assert wandb.run is not None
    wandb.run.mark_preempting()
    sys.exit(1)


def preempt_once() -> None:
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        preempt()


def start_an_agent() -> None:
    wandb.agent(os.environ["WANDB_SWEEP_ID"], function=opened(), count=1)


def make_a_sweep() -> None:
    wandb.sweep({"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}, project="another")


def tear_down() -> None:
    """Fail unless the run is finished first, but not by a fork, which has no part in it.

    wandb-core may miss its end while it is busy with a run.
    """
    run = wandb.init()
    child = os.fork()
    if child == 0:
        wandb.teardown()
        os._exit(0)
    os.waitpid(child, 0)
    run.log({"loss": 1.0})
    vars(run)["finish"] = finish = Mock(wraps=run.finish)
    wandb.teardown()
    finish.assert_called_once_with(exit_code=0)


def kill_core() -> None:
    for child in psutil.Process().children():
        if child.name() == "wandb-core":
            child.kill()


def kill_core_as_it_is_torn_down() -> None:
    """Have the client wait for a wandb-core that is killed then: it leaves by `sys.exit` with its code."""
    for child in psutil.Process().children():
        if child.name() == "wandb-core":
            child.suspend()
    threading.Timer(0.3, kill_core).start()
    wandb.teardown()


def change_environment() -> None:
    os.environ["WANDB_API_KEY"] = "1" * 40
    os.environ["WANDB_BASE_URL"] = "http://127.0.0.1:9"
    os.environ["WANDB_MODE"] = "offline"


def point_at_no_folder() -> None:
    tempfile.tempdir = "/nonexistent"


def lower_limits() -> None:
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS):
        resource.setrlimit(limit, (16, resource.getrlimit(limit)[1]))


def become_nobody() -> None:
    wandb.finish()  # nobody may not read the run's folder
    if os.getuid() == 0:
        os.setgid(HARMLESS_USER)
        os.setuid(HARMLESS_USER)


def refuse(*args: object, **keys: object) -> NoReturn:
    raise RuntimeError("patched by main")


def patch_json() -> None:
    vars(json)["dumps"] = refuse


def patch_threading() -> None:
    vars(threading)["Thread"].start = refuse


USAGES: dict[str, Callable[[], None]] = {
    "offline": opened(mode="offline"),
    "offline_by_setup": logging_to(init_offline_by_setup),
    "offline_by_environment": logging_to(init_offline_by_environment),
    "disabled": opened(mode="disabled"),
    "must_resume": opened(resume="must"),
    "other_place": opened(project="another", id="own", name="mine", settings=wandb.Settings(run_id="own2")),
    "logs_in": logging_to(init_as_somebody),
    "two_runs": open_two_after_each_other,
    "left_open": logging_to(init_and_keep),
    "preempts": spoiling(preempt_once),
    "tears_down": tear_down,
    "own_agent": start_an_agent,
    "own_sweep": spoiling(make_a_sweep),
    "kills_core": spoiling(kill_core),
    "kills_core_late": spoiling(kill_core_as_it_is_torn_down),
    "clears_environment": spoiling(os.environ.clear),
    "changes_environment": spoiling(change_environment),
    "no_temporary_folder": spoiling(point_at_no_folder),
    "lowers_limits": spoiling(lower_limits),
    "another_user": spoiling(become_nobody),
    "patches_json": spoiling(patch_json),
    "patches_threading": spoiling(patch_threading),
}
