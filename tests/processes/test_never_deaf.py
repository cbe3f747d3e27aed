"""A stop is heard whatever is waited for, and ends a sweep in its time whatever hangs or can't be written."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import DEADLINE_S, RANDOM, Ended, RealSweep, outcomes

pytestmark = pytest.mark.thorough

ROOT: Final = Path(__file__).parents[2]
GRACE_S: Final = 2
WITHIN_S: Final = 20.0
"""Ten times the grace period: a busy machine needs time too, and what hung here hung for minutes."""
AT_ONCE_S: Final = 10.0
COUNT: Final = 2

SLOW: Final = """
import os, pathlib, time
pathlib.Path(os.environ["JOURNAL"]).with_name("importing").touch()
time.sleep(600)
"""


def stop(sweep: RealSweep, *numbers: signal.Signals, within_s: float = WITHIN_S) -> Ended:
    """Send signals, and expect the command's end in time."""
    for number in numbers:
        sweep.signal(number)
        time.sleep(0.2)  # two that come at once are one to the kernel
    began = time.monotonic()
    ended = sweep.finish()
    assert time.monotonic() - began < within_s, ended.stderr
    return ended


def test_a_preload_that_takes_long_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    (sweep.folder / "slow.py").write_text(SLOW)
    temporary = sweep.folder / "temporary"
    temporary.mkdir()
    sweep.env |= {"TMPDIR": str(temporary), "PYTHONPATH": str(sweep.folder)}
    sweep.start("brief", count=COUNT, preload=["slow"])
    sweep.wait_until((sweep.folder / "importing").exists, "the preload")
    ended = stop(sweep, signal.SIGINT, within_s=AT_ONCE_S)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert list(temporary.iterdir()) == []


def test_a_target_that_takes_long_to_load_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    (sweep.folder / "slow.py").write_text(SLOW)
    sweep.start("main", mains=sweep.folder / "slow.py", count=COUNT)
    sweep.wait_until((sweep.folder / "importing").exists, "the target")
    ended = stop(sweep, signal.SIGINT, within_s=AT_ONCE_S)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr


def halt(sweep: RealSweep) -> None:
    sweep.process_named("parallel_hpo.server").send_signal(signal.SIGSTOP)


def test_a_server_that_hangs_at_its_start_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    (sweep.folder / "quick.py").write_text(SLOW.replace("time.sleep(600)", "main = print"))
    sweep.start("main", mains=sweep.folder / "quick.py", count=COUNT)
    sweep.wait_until(lambda: has_server(sweep), "the server")
    halt(sweep)
    sweep.wait_until((sweep.folder / "importing").exists, "main tried")
    server = sweep.process_named("parallel_hpo.worker.forkserver")
    sweep.wait_until(lambda: not server.children(), "main's trial over, so that the server is waited for")
    ended = stop(sweep, signal.SIGINT, within_s=AT_ONCE_S)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr


def has_server(sweep: RealSweep) -> bool:
    return any("parallel_hpo.server" in process.cmdline() for process in sweep.tree())


def test_a_fork_server_that_hangs_does_not_keep_a_second_stop_waiting(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=COUNT, grace_period_s=300)
    sweep.wait_for(2)
    sweep.process_named("parallel_hpo.worker.forkserver").send_signal(signal.SIGSTOP)
    ended = stop(sweep, signal.SIGINT, signal.SIGINT)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert outcomes(ended.summary) == ["stopped"] * 2


def spoil(sweep: RealSweep) -> None:
    """Damage the database: each request about runs is answered by an error from now on."""
    with closing(sqlite3.connect(sweep.directory / "server.db", timeout=DEADLINE_S)) as database:
        database.execute("ALTER TABLE runs RENAME TO lost")
    sweep.unlike = "what the server knows of its runs is lost"


TROUBLES: Final[dict[str, Callable[[RealSweep], None]]] = {"stopped": halt, "damaged": spoil}


@pytest.mark.parametrize(("trouble", "signals"), [("stopped", 1), ("stopped", 2), ("damaged", 1)])
def test_a_server_that_does_not_answer_does_not_keep_a_stop_waiting(
    sweep: RealSweep, trouble: str, signals: int
) -> None:
    sweep.start("sleeper", count=COUNT, grace_period_s=GRACE_S if signals == 1 else 300)
    sweep.wait_for(2)
    TROUBLES[trouble](sweep)
    ended = stop(sweep, *[signal.SIGINT] * signals)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert outcomes(ended.summary) == ["stopped"] * 2
    assert ended.summary["exit_code"] == ended.code
    assert (
        "the sweep server did not receive what a worker was issued and did not start, the end of run"
        in ended.stderr
    )
    if trouble == "stopped" and signals == 1:
        ended = sweep.start("brief", count=COUNT, arguments=("--resume", ended.summary["sweep_id"])).finish()
        assert outcomes(ended.summary) == ["finished"] * COUNT, ended.stderr


def test_a_server_that_hangs_at_the_sweeps_end_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    sweep.start("held_after_its_end", count=1, workers=1, grace_period_s=GRACE_S, arguments=("-v",))
    sweep.wait_for(1, "ended")
    halt(sweep)
    (sweep.folder / "go").touch()
    sweep.read_until("w0 exited")  # the last worker: now the server is waited for
    ended = stop(sweep, signal.SIGINT)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert "the sweep server did not receive what a worker was issued and did not start" in ended.stderr
    assert outcomes(ended.summary) == ["finished"]
    assert ended.summary["exit_code"] == ended.code
    ended = sweep.start("brief", count=1, arguments=("--resume", ended.summary["sweep_id"])).finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"]), ended.stderr


SCRIPT: Final = """
import signal
from parallel_hpo import ConfigLoader
from tests.processes.mains import brief

heard = set()
for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGWINCH):
    signal.signal(number, lambda number, frame: heard.add(number))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
result = ConfigLoader("config.json").hpo.optimize(brief)
print(result.exit_code, result.finished, signal.SIGALRM in heard)
"""


def test_signals_that_the_host_program_handles_change_nothing(sweep: RealSweep) -> None:
    """A timer that goes off a hundred times a second, from the first moment to the last."""
    (sweep.folder / "script.py").write_text(SCRIPT)
    section = {"directory": str(sweep.directory), "sweep_configuration": RANDOM, "workers": 2, "count": COUNT}
    (sweep.folder / "config.json").write_text(json.dumps({"hpo": section}))
    sweep.env["PYTHONPATH"] = str(ROOT)
    ended = sweep.start_command("script.py").finish()
    assert ended.stdout.splitlines()[-1:] == [f"0 {COUNT} True"], ended.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where such a one may be mounted."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_full_disk_does_not_keep_a_stop_waiting(sweep: RealSweep, small_disk: Path) -> None:
    sweep.directory = small_disk / "sweeps"
    sweep.start("held", count=COUNT, grace_period_s=GRACE_S)
    sweep.wait_for(2)
    fill(small_disk)
    (sweep.folder / "go").touch()
    ended = stop(sweep, signal.SIGTERM)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGTERM, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["attempted"] == COUNT
    assert set(outcomes(summary)) <= {"finished", "stopped"}
