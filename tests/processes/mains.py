"""What the runs of these tests do: each public function is a `main`, and journals what happens to it.

Imported by workers, so nothing of the tests is imported here.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import wandb

GO = "go"
"""The file beside the journal that lets held runs end."""
DEADLINE_S = 120.0


def journal(event: str, **facts: Any) -> None:
    """Append a line to the test's journal; one write, so that lines of several workers don't mix."""
    line = {
        "event": event,
        "run_id": os.environ["PARALLEL_HPO_RUN_ID"],
        "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]),
        "slot": int(os.environ["PARALLEL_HPO_WORKER"]),
        "pid": os.getpid(),
        **facts,
    }
    with Path(os.environ["JOURNAL"]).open("ab", buffering=0) as file:
        file.write((json.dumps(line) + "\n").encode())


def enter(**facts: Any) -> Any:
    run = wandb.init()
    journal("enter", parameters=dict(wandb.config), home=os.environ["WANDB_DIR"], **facts)
    return run


def is_first_attempt() -> bool:
    return os.environ["PARALLEL_HPO_ATTEMPT"] == "1"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def may_go() -> bool:
    return Path(os.environ["JOURNAL"]).with_name(GO).exists()


# --- runs that end well ------------------------------------------------------------------------


def quick() -> None:
    run = enter()
    for step in range(3):
        run.log({"loss": float(wandb.config["x"]) + step})


def brief() -> None:
    run = enter()
    time.sleep(0.3)
    run.log({"loss": float(wandb.config["x"])})


def held() -> None:
    """Run until the test lets all go on."""
    run = enter()
    wait_until(may_go)
    run.log({"loss": float(wandb.config["x"])})


def held_unless_in_slot_0_which_takes_no_more_runs() -> None:
    """In slot 0, make a file where the agent writes the next run's parameters; elsewhere be `held`."""
    if os.environ["PARALLEL_HPO_WORKER"] != "0":
        return held()
    run = enter()
    folder = Path(os.environ["WANDB_DIR"], "wandb", f"sweep-{run.sweep_id}")
    shutil.rmtree(folder)
    folder.touch()
    run.log({"loss": 1.0})
    return None


def held_after_its_end() -> None:
    """End the run for the server, and then run until the test lets all go on."""
    enter().log({"loss": 1.0})
    wandb.finish()
    journal("ended")
    wait_until(may_go)


def curious() -> None:
    """Journal what a run finds around it, log what is highest in the middle, and define the summary by it."""
    import numpy

    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    run = enter(
        in_main_thread=threading.current_thread() is threading.main_thread(),
        heard=heard,
        random=random.random(),
        numpy=float(numpy.random.random()),
        argv=sys.argv,
        environment=dict(os.environ),
        key=os.environ["WANDB_API_KEY"],
        stdin=sys.stdin.read(),
    )
    again = pickle.loads(pickle.dumps(copy.deepcopy(run.settings)))
    assert again.run_id == run.id
    run.define_metric("loss", summary="min,max")
    for more in (0, 2, 1):
        run.log({"loss": float(wandb.config["x"]) + more})


def polite() -> None:
    """Journal the priority of this process, and of one that it starts; run until the test lets all go on."""
    ask = "import os, psutil; print(os.nice(0), int(getattr(psutil.Process().ionice(), 'ioclass', -1)))"
    child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    enter(nice=os.nice(0), child=child.stdout.split()).log({"loss": 1.0})
    wait_until(may_go)


def with_a_login() -> None:
    """Log in with a key of the user's own, as scripts that were written for W&B do."""
    key = os.environ["WANDB_API_KEY"]
    wandb.login(key=os.environ["USERS_KEY"])
    enter(key=key).log({"loss": float(wandb.config["x"])})


def stepping() -> None:
    """Log an epoch each tenth of a second, until the test lets all go on."""
    with wandb.init() as run:
        for epoch in range(int(run.config["epochs"])):
            run.log({"loss": 1.0 / (epoch + 1), "epoch": epoch})
            if epoch % 10 == 0:
                print(f"epoch {epoch} of {run.id}")
            if may_go():
                break
            time.sleep(0.1)


def logs_for_long_in_slot_0() -> None:
    """Log all the time: for 8 s in slot 0, for 1 s in the others."""
    run = enter()
    for step in range(40 if os.environ["PARALLEL_HPO_WORKER"] == "0" else 5):
        run.log({"loss": float(step)})
        time.sleep(0.2)


# --- runs that fail, die or hang ---------------------------------------------------------------


def mixed() -> None:
    """Finish, fail or die, as `how` says, after more lines than are kept.

    Where ASK is set, ask, and wait to be interrupted.
    """
    run = wandb.init()
    how = wandb.config["how"]
    for number in range(250):
        print(f"line {number} of {how}")
    run.log({"loss": 1.0})
    if os.environ.get("ASK"):
        print("your answer?")
        print("it was", input())
        time.sleep(600)
    if how == "fail":
        raise ValueError("this one fails")
    if how == "exit":
        sys.exit(3)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)


def exiting() -> None:
    enter()
    os._exit(3)


def sleeper() -> None:
    try:
        enter()
        time.sleep(600)
    except KeyboardInterrupt:
        journal("interrupted")
        raise


def deaf() -> None:
    """Swallow all requests to stop."""
    enter()
    while True:
        try:
            time.sleep(600)
        except BaseException:  # noqa: BLE001 - that is what this main is for
            journal("swallowed")


def holding_the_interpreter() -> None:
    """Stay in C code that never lets another thread run: nothing in this process notices anything."""
    import ctypes

    enter()
    ctypes.PyDLL(None).sleep(600)


def with_grandchild() -> None:
    """Start a grandchild that has a session of its own, and go on."""
    enter().log({"loss": 1.0})
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            journal("grandchild")
            time.sleep(600)
        os._exit(0)
    try:
        os.wait()
        time.sleep(600)
    except KeyboardInterrupt:
        journal("interrupted")
        raise


def seeded() -> None:
    """Draw a number, and in the first attempt of some runs die."""
    seed = int(os.environ["PARALLEL_HPO_SEED"])
    run = enter(seed=seed, drawn=random.random())
    if seed % 3 == 0 and is_first_attempt():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("EACH_S", "0")))
    run.log({"loss": float(wandb.config["x"])})


def from_checkpoint() -> None:
    """Die once the server has what was logged, and go on from step 2 in the next attempt."""
    again = not is_first_attempt()
    wandb.setup()  # as wandb.login() and wandb.Api() call it: from now on the client ignores the environment
    run = wandb.init(resume_from=f"{os.environ['PARALLEL_HPO_RUN_ID']}?_step=2" if again else None)
    journal("enter", parameters=dict(wandb.config))
    for step in range(3 if again else 0, 5):
        run.log({"loss": step + (100 if again else 0)})
    if not again:
        path = f"{run.entity}/{run.project}/{run.id}"
        wait_until(lambda: wandb.Api().run(path).lastHistoryStep >= 4)
        os.kill(os.getpid(), signal.SIGKILL)


def cut_short() -> None:
    """Log 2000 lines and die: the first ones sent, the rest (but for a block of 200) in the client's file.

    With SPOIL_FILE the file can't be read afterwards.
    """
    run = enter()
    path = f"{run.entity}/{run.project}/{run.id}"
    for number in range(2000):
        run.log({"loss": number, "mark": f"line {number} of the run"})
        if number == 1000:
            wait_until(lambda: wandb.Api().run(path).lastHistoryStep > 0)
    file = Path(run.dir).parent / f"run-{run.id}.wandb"
    marks = [f"line {number} of the run".encode() for number in range(1800, 2000)]
    wait_until(lambda: any(mark in file.read_bytes() for mark in marks))
    if os.environ.get("SPOIL_FILE"):
        file.write_bytes(b"no file of wandb's")
    os._exit(3)


def judged() -> None:
    """Be the better one with x = 1; else log two rows in the first attempt, one in the second, and wait."""
    from wandb.sdk.lib import run_stopping

    checker: Any = run_stopping.RunStopChecker
    checker.__init__.__kwdefaults__["poll_interval"] = 0.2  # wandb asks every 15 s whether its run is to stop
    run = enter()
    if wandb.config["x"] == 1:
        for _ in range(3):
            run.log({"loss": 1.0})
        return
    for _ in range(2 if is_first_attempt() else 1):
        run.log({"loss": 2.0})
    journal("logged")
    wait_until(may_go)
    for _ in range(600):
        run.log({"loss": 2.0})
        time.sleep(0.1)


# --- runs on devices ---------------------------------------------------------------------------


def dying_once() -> None:
    """Die in the first attempt of each run, once each worker has entered one."""
    enter(environment=dict(os.environ))

    def slots() -> set[int]:
        *whole, _ = Path(os.environ["JOURNAL"]).read_text().split("\n")  # the last one may be incomplete
        return {json.loads(line)["slot"] for line in whole}

    wait_until(lambda: len(slots()) >= int(os.environ["PARALLEL_HPO_WORKERS"]))
    if is_first_attempt():
        os.kill(os.getpid(), signal.SIGKILL)
    wandb.log({"loss": 1.0})


def computing() -> None:
    """Compute on the device as its driver would report; die in the first attempt, the memory still held."""
    memory = Path(os.environ["FAKE_NVML"])
    run = enter(held=memory.read_text() if memory.exists() else "")
    if is_first_attempt():
        memory.write_text(str(os.getpid()))
        journal("computing")
        os.kill(os.getpid(), signal.SIGKILL)
    run.log({"loss": 1.0})


def holding() -> None:
    """Hold 24,000 MB of the device as its driver reports; once, beside two others, find too little."""
    memory = Path(os.environ["FAKE_NVML"])
    memory.touch()
    known = {int(line.split()[0]) for line in memory.read_text().splitlines()}
    if os.getpid() not in known:  # a worker performs several runs
        with memory.open("a") as file:
            file.write(f"{os.getpid()} 24000\n")
    others = sorted(pid for pid in known - {os.getpid()} if psutil.pid_exists(pid))
    run = enter(others=others)
    run.log({"loss": 1.0})
    with suppress(FileExistsError):  # not the first one
        if len(others) == 2:
            memory.with_name("fallen").touch(exist_ok=False)
            raise RuntimeError("CUDA out of memory: tried to allocate 20.00 GiB")
