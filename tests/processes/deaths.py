"""Every way in which a run or its worker may end or misbehave, or use wandb: `death` says which.

`tests/processes/test_death_matrix.py` says what each counts as. Imported by workers,
so nothing of the tests is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import psutil
import wandb
import yaml

NEVER_S = 120.0
"""Longer than any test waits."""
HARMLESS_USER = 65534
"""nobody; only root may become it."""
ANOTHER_SERVER = {"WANDB_API_KEY": "1" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_MODE": "offline"}


def die() -> None:
    """Do what the run's parameter says; the run is open but for usages of wandb, which open it themselves."""
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    death = parameters["death"]["value"]
    if death in DEATHS:
        wandb.init()
    print("inside", death, flush=True)
    (DEATHS | USAGES)[death]()


class Unpicklable(Exception):
    """Holds what can't be pickled."""

    def __init__(self) -> None:
        super().__init__("not to be pickled")
        self.lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle this")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def get(number: int) -> None:
    """Die by a signal from outside."""
    os.kill(os.getpid(), number)
    time.sleep(NEVER_S)


def throw(error: BaseException) -> Callable[[], None]:
    def death() -> None:
        raise error

    return death


def stop_for_a_while() -> None:
    """Be stopped by SIGSTOP, and go on after longer than a heartbeat."""
    number = os.getpid()
    if os.fork() == 0:
        os.kill(number, signal.SIGSTOP)
        time.sleep(6.0)
        os.kill(number, signal.SIGCONT)
        os._exit(0)
    os.wait()


def grow() -> None:
    """Take memory until somebody stops it; 1.5 GB at most."""
    kept = []
    for _ in range(60):
        kept.append(b"x" * 25 * 2**20)
        time.sleep(0.02)
    time.sleep(NEVER_S)


def sleep() -> None:
    time.sleep(NEVER_S)


def hang_in_c() -> None:
    """Hold the interpreter's lock, as C code that hangs does; a signal ends one sleep only."""
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(int(NEVER_S))


def swallow() -> None:
    """Swallow whatever asks it to stop."""
    while True:
        with contextlib.suppress(BaseException):
            print("deaf from now on", flush=True)
            time.sleep(NEVER_S)


def replace_signal_handlers() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def ignore_signals() -> None:
    replace_signal_handlers()
    time.sleep(NEVER_S)


def leave_threads() -> None:
    for daemon in (False, True):
        threading.Thread(target=time.sleep, args=(NEVER_S,), daemon=daemon).start()


def fork_and_let_go_on() -> None:
    """Return from `main` twice: the child at once, the run's own process after it."""
    if os.fork() == 0:
        return
    os.wait()
    wandb.log({"loss": 1.0})


def fork_and_let_fail() -> None:
    if os.fork() == 0:
        raise ValueError("in the child")
    os.wait()


def fork_and_let_live() -> None:
    if os.fork() == 0:
        time.sleep(NEVER_S)


def leave_grandchild() -> None:
    """Leave a grandchild in a session of its own, deaf to all that can be ignored."""
    script = "import signal, time; [signal.signal(n, 1) for n in (1, 2, 15)]; time.sleep(120)"
    start = f"subprocess.Popen([sys.executable, '-c', {script!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", f"import subprocess, sys; {start}"], check=True)


def delete_folder() -> None:
    folder = Path("doomed").absolute()
    folder.mkdir()
    os.chdir(folder)
    shutil.rmtree(folder)


def initialise_twice() -> None:
    wandb.init()
    wandb.log({"loss": 1.0})


def initialise_anew() -> None:
    wandb.finish()
    initialise_twice()


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    raise ValueError("unseen")


def print_much() -> None:
    """Print 100 MB as native code does: the client would send the lines of `sys.stdout`, 1000 a second."""
    line = b"x" * 999 + b"\n"
    for _ in range(1000):
        rest = line * 100
        while rest:
            rest = rest[os.write(1, rest) :]


DEATHS: dict[str, Callable[[], object]] = {
    "sigkill": lambda: get(signal.SIGKILL),
    "sigterm": lambda: get(signal.SIGTERM),
    "sigsegv": lambda: ctypes.string_at(0),
    "sigabrt": os.abort,
    "sigstop": stop_for_a_while,
    "os_exit_0": lambda: os._exit(0),
    "os_exit_3": lambda: os._exit(3),
    "sys_exit_none": sys.exit,
    "sys_exit_0": lambda: sys.exit(0),
    "sys_exit_1": lambda: sys.exit(1),
    "sys_exit_text": lambda: sys.exit("text"),
    "sys_exit_unprintable": throw(SystemExit(Unprintable())),
    "exception": throw(ValueError("no good")),
    "unpicklable": throw(Unpicklable()),
    "unprintable": throw(Unprintable()),
    "keyboard_interrupt": throw(KeyboardInterrupt()),
    "system_exit": throw(SystemExit(4)),
    "memory_error": throw(MemoryError()),
    "memory_limit": grow,
    "sleeps": sleep,
    "hangs_in_c": hang_in_c,
    "swallows": swallow,
    "ignores_signals": ignore_signals,
    "replaces_handlers": replace_signal_handlers,
    "leaves_threads": leave_threads,
    "fork_goes_on": fork_and_let_go_on,
    "fork_fails": fork_and_let_fail,
    "fork_lives": fork_and_let_live,
    "grandchild": leave_grandchild,
    "changes_folder": lambda: os.chdir("/"),
    "deletes_folder": delete_folder,
    "closes_descriptors": lambda: os.closerange(3, 4096),
    "closes_streams": close_streams,
    "finishes": wandb.finish,
    "initialises_twice": initialise_twice,
    "initialises_anew": initialise_anew,
    "prints_much": print_much,
}


# --- usages of wandb, and harm to the process that a run shares with it -------------------------


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


def preempt_once() -> None:
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        assert wandb.run is not None
        wandb.run.mark_preempting()
        sys.exit(1)


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


def cores() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "wandb-core"]


def kill_core() -> None:
    for core in cores():
        core.kill()


def kill_core_as_it_is_torn_down() -> None:
    """Have the client wait for a wandb-core that is killed then: it leaves by `sys.exit` with its code."""
    for core in cores():
        core.suspend()
    threading.Timer(0.3, kill_core).start()
    wandb.teardown()


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


def patch_threading() -> None:
    vars(threading)["Thread"].start = refuse


SPOILS: dict[str, Callable[[], object]] = {
    "clears_environment": os.environ.clear,
    "changes_environment": lambda: os.environ.update(ANOTHER_SERVER),
    "no_temporary_folder": lambda: vars(tempfile).update(tempdir="/nonexistent"),
    "lowers_limits": lower_limits,
    "another_user": become_nobody,
    "patches_json": lambda: vars(json).update(dumps=refuse),
    "patches_threading": patch_threading,
}
"""What a run does to the process that it shares with wandb."""
USAGES: dict[str, Callable[[], object]] = {
    "never_initialises": lambda: None,
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
    "own_agent": lambda: wandb.agent(os.environ["WANDB_SWEEP_ID"], function=opened(), count=1),
    "own_sweep": spoiling(lambda: wandb.sweep({"method": "random", "parameters": {"x": {"value": 1}}})),
    "kills_core": spoiling(kill_core),
    "kills_core_late": spoiling(kill_core_as_it_is_torn_down),
    **{name: spoiling(spoil) for name, spoil in SPOILS.items()},
}
