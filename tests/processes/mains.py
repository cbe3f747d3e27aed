"""What the runs of these tests do: each function is a `main`, and journals what happens to it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import wandb


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
    with Path(os.environ["JOURNAL"]).open("ab", buffering=0) as file:  # one write, whatever its length
        file.write((json.dumps(line) + "\n").encode())


def enter(**facts: Any) -> Any:
    run = wandb.init()
    journal("enter", parameters=dict(wandb.config), home=os.environ["WANDB_DIR"], **facts)
    return run


def quick() -> None:
    run = enter()
    for step in range(3):
        run.log({"loss": float(wandb.config["x"]) + step})


def chatty() -> None:
    enter().log({"loss": 0.0})
    print("main says hello")


def copying() -> None:
    """Read, copy and pickle what the client keeps of a run, and log the code."""
    run = wandb.init()
    settings = run.settings
    again = pickle.loads(pickle.dumps(copy.deepcopy(settings)))
    code = run.log_code(str(Path(__file__).parent), include_fn=lambda path: path.endswith("mains.py"))
    same = again.run_id == settings.run_id == run.id
    journal(
        "enter", same=same, stop_fn=settings.stop_fn, program=settings.program, code=str(code and code.name)
    )
    run.log({"loss": float(wandb.config["x"])})


def summarised() -> None:
    """Log what is highest in the middle, and have the summary say so."""
    run = enter()
    run.define_metric("loss", summary="min,max")
    for more in (0, 2, 1):
        run.log({"loss": float(wandb.config["x"]) + more})


def seeded() -> None:
    """Draw a number, and in the first attempt of some runs die."""
    seed = int(os.environ["PARALLEL_HPO_SEED"])
    run = enter(seed=seed, drawn=random.random())
    if seed % 3 == 0 and os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ.get("EACH_S", "0")))
    run.log({"loss": float(wandb.config["x"])})


def polite() -> None:
    """Say how this process, and one that it starts, give way to others; take a while."""
    ask = "import os, psutil; print(os.nice(0), int(getattr(psutil.Process().ionice(), 'ioclass', -1)))"
    child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    run = enter(nice=os.nice(0), child=child.stdout.split(), device=os.environ["PARALLEL_HPO_DEVICE"])
    time.sleep(float(os.environ.get("EACH_S", "0")))
    run.log({"loss": float(wandb.config["x"])})


def brief() -> None:
    run = enter()
    time.sleep(0.3)
    run.log({"loss": float(wandb.config["x"])})


def from_checkpoint() -> None:
    """Die once the server has what was logged, and go on from step 2 in the next attempt."""
    again = os.environ["PARALLEL_HPO_ATTEMPT"] == "2"
    wandb.setup()  # as wandb.login() and wandb.Api() do it: from now on the environment says nothing more
    run = wandb.init(resume_from=f"{os.environ['PARALLEL_HPO_RUN_ID']}?_step=2" if again else None)
    journal("enter", parameters=dict(wandb.config))
    for step in range(3 if again else 0, 5):
        run.log({"loss": step + (100 if again else 0)})
    path, deadline = f"{run.entity}/{run.project}/{run.id}", time.monotonic() + 60
    while not again and wandb.Api().run(path).lastHistoryStep < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    if not again:
        os.kill(os.getpid(), signal.SIGKILL)


def held() -> None:
    """Run until the test lets all go on."""
    run = enter()
    await_go()
    run.log({"loss": float(wandb.config["x"])})


def held_after_its_end() -> None:
    """End the run for the server, and then run until the test lets all go on."""
    enter().log({"loss": 1.0})
    wandb.finish()
    journal("ended")
    await_go()


def await_go() -> None:
    deadline = time.monotonic() + 60
    while not Path(os.environ["JOURNAL"]).with_name("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def curious() -> None:
    """Journal what a run finds around it."""
    import numpy

    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    enter(
        in_main_thread=threading.current_thread() is threading.main_thread(),
        heard=heard,
        random=random.random(),
        numpy=float(numpy.random.random()),
        argv=sys.argv,
        environment=dict(os.environ),
        interactive=sys.stdin.read(),
    ).log({"loss": 1.0})


def mendable() -> None:
    """Fail until somebody has mended it."""
    run = enter()
    if not Path(os.environ["JOURNAL"]).with_name("mended").exists():
        raise ValueError("not mended yet")
    run.log({"loss": 1.0})


def sleeper() -> None:
    try:
        enter()
        time.sleep(60)
    except KeyboardInterrupt:
        journal("interrupted")
        raise


def deaf() -> None:
    """Swallow whatever asks it to stop."""
    enter()
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - that is what this main is for
            journal("swallowed")


def failing() -> None:
    enter()
    raise ValueError("no good")


def exiting() -> None:
    enter()
    os._exit(3)


def never_initialising() -> None:
    journal("enter")


def with_grandchild() -> None:
    """Leave a grandchild that has a session of its own, and go on."""
    enter().log({"loss": 1.0})
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            journal("grandchild")
            time.sleep(120)
        os._exit(0)
    os.wait()
    if wandb.config["x"] >= 0:
        time.sleep(float(os.environ.get("THEN_SLEEP", "0")))


def needs_an_argument(argument: object) -> None:
    raise AssertionError(argument)


not_a_function = 3


def hangs_at_first() -> None:
    """Hang in the first attempt, and not in the second."""
    run = enter()
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        time.sleep(60)
    run.log({"loss": 1.0})


def logs_slowly() -> None:
    """Take longer than any stall time-out, but never as long without a word."""
    run = enter()
    for step in range(12):
        run.log({"loss": float(step)})
        time.sleep(0.4)


def logs_for_long_in_slot_0() -> None:
    """Log all the time: for 9 s in slot 0, for 1 s in the others."""
    run = enter()
    for step in range(45 if os.environ["PARALLEL_HPO_WORKER"] == "0" else 5):
        run.log({"loss": float(step)})
        time.sleep(0.2)


def fails_on_device_3() -> None:
    run = enter(device=os.environ["PARALLEL_HPO_DEVICE"])
    if os.environ["PARALLEL_HPO_DEVICE"] == "3":
        raise RuntimeError("its device is broken")
    run.log({"loss": 1.0})


def fails_later() -> None:
    """Finish, until two runs have been through; fail from then on."""
    enter().log({"loss": 1.0})
    before = Path(os.environ["JOURNAL"]).read_text().count('"enter"')
    if before > 2:
        raise ValueError("no good")


def fails_every_other_time() -> None:
    run = enter()
    before = Path(os.environ["JOURNAL"]).read_text().count('"enter"')
    if before % 2 == 0:
        raise ValueError("no good")
    run.log({"loss": 1.0})


def dies_in_slot_0() -> None:
    run = enter()
    if os.environ["PARALLEL_HPO_WORKER"] == "0":
        os._exit(3)
    run.log({"loss": 1.0})


def together() -> Any:
    """Enter, journal the environment, and go on once each worker has entered a run."""
    run = enter(environment=dict(os.environ))
    deadline = time.monotonic() + 60
    while len(_slots_entered()) < int(os.environ["PARALLEL_HPO_WORKERS"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.log({"loss": 1.0})
    return run


def _slots_entered() -> set[int]:
    *whole, _ = Path(os.environ["JOURNAL"]).read_text().split("\n")  # the last one may be half written
    return {json.loads(line)["slot"] for line in whole}


def dying_once() -> None:
    """Die in the first attempt of each run, once all workers have begun one."""
    together()
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def preloaded() -> None:
    enter(loaded="counted" in sys.modules).log({"loss": 1.0})


def out_of_memory() -> None:
    enter()
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


def computing() -> None:
    """Compute on the device as its driver would tell; die in the first attempt, the memory still held."""
    held = Path(os.environ["FAKE_NVML"])
    run = enter(held=held.read_text() if held.exists() else "")
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        held.write_text(str(os.getpid()))
        journal("computing")
        os.kill(os.getpid(), signal.SIGKILL)
    run.log({"loss": 1.0})


def holding() -> None:
    """Hold 24,000 MB of the device as its driver tells; once, in a run beside two others, find too little."""
    held = Path(os.environ["FAKE_NVML"])
    held.touch()
    known = {int(line.split()[0]) for line in held.read_text().splitlines()}
    if os.getpid() not in known:  # a worker performs several runs
        with held.open("a") as file:
            file.write(f"{os.getpid()} 24000\n")
    others = sorted(pid for pid in known - {os.getpid()} if psutil.pid_exists(pid))
    run = enter(others=others)
    run.log({"loss": 1.0})
    _fall_short_once(others)


def _fall_short_once(others: list[int]) -> None:
    fallen = Path(os.environ["FAKE_NVML"]).with_name("fallen")
    if len(others) == 2 and not fallen.exists():
        fallen.touch()
        raise RuntimeError("CUDA out of memory: tried to allocate 20.00 GiB")


def judged() -> None:
    """Be the better one with x = 1; else log two rows in the first attempt, one in the second, and wait."""
    _look_often_for_a_stop()
    run = enter()
    if wandb.config["x"] == 1:
        for _ in range(3):
            run.log({"loss": 1.0})
        return
    for _ in range(2 if os.environ["PARALLEL_HPO_ATTEMPT"] == "1" else 1):
        run.log({"loss": 2.0})
    journal("logged")
    await_go()
    for _ in range(600):
        run.log({"loss": 2.0})
        time.sleep(0.1)


def _look_often_for_a_stop() -> None:
    """Have wandb's client ask every 0.2 s, and not every 15 s, whether its run is to stop."""
    from wandb.sdk.lib import run_stopping

    checker: Any = run_stopping.RunStopChecker
    checker.__init__.__kwdefaults__["poll_interval"] = 0.2
