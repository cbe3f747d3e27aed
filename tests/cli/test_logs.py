"""`parallel-hpo logs` of a sweep on many machines."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_hpo.cli.logs import LOOK_EVERY_S, logs
from parallel_hpo.core.folders import PIPE
from parallel_hpo.records.ledger import Ledger
from tests.cluster.pools import joined


def test_local_logs_of_machines_are_printed_and_others_named(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    directory, other = tmp_path / "sweeps", tmp_path / "other" / "abc"
    places = {"gpu1": str(directory), "gpu2": str(other.parent), "gpu3": "/on/gpu3"}
    with Ledger(directory / "abc" / "ledger.db") as ledger:
        machines = enumerate(places.items(), 1)
        ledger.append([joined(i, i, name, directory=at) for i, (name, at) in machines], durable=False)
    for folder, line in ((directory / "abc" / "machine-gpu1-1", "one"), (other / "machine-gpu2-2", "two")):
        (folder / "worker-0").mkdir(parents=True)
        (folder / "worker-0" / "output.log").write_text(f"{line}\n")
    logs("abc", None, directory=directory)
    printed = capfdbinary.readouterr()
    assert sorted(printed.out.decode().splitlines()) == [
        "==> machine-gpu1-1/worker-0 <==",
        "==> machine-gpu2-2/worker-0 <==",
        "one",
        "two",
    ]
    assert printed.err == b"the logs of gpu3 are on that machine, in /on/gpu3/abc/machine-gpu3-3\n"


def joined_machine(directory: Path) -> Path:
    """Create the folder of a joined machine with a worker's log."""
    machine = directory / "abc" / "machine-gpu1-1"
    (machine / "worker-0").mkdir(parents=True)
    (machine / "worker-0" / "output.log").write_text("one\n")
    return machine


def test_a_machine_that_has_joined_prints_its_own_logs(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    joined_machine(tmp_path)
    logs("abc", None, directory=tmp_path)
    printed = capfdbinary.readouterr()
    assert printed.out == b"==> machine-gpu1-1/worker-0 <==\none\n"
    assert printed.err == b"the sweep's other machines, if there are any, keep their own logs\n"


def test_a_machines_log_is_followed_until_its_part_ends(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    machine = joined_machine(tmp_path)
    os.mkfifo(machine / PIPE)
    supervisor = os.open(machine / PIPE, os.O_RDONLY | os.O_NONBLOCK)
    following = threading.Thread(target=logs, args=("abc",), kwargs={"follow": True, "directory": tmp_path})
    following.start()
    following.join(LOOK_EVERY_S)
    was_on = following.is_alive()
    os.close(supervisor)
    following.join()
    assert was_on
    assert b"one" in capfdbinary.readouterr().out


def test_a_worker_is_named_by_its_slot_or_number(
    tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    joined_machine(tmp_path)
    for worker in ("0", "w0"):
        assert command("logs", "abc", worker, "--directory", str(tmp_path)).stdout == "one\n"
    refused = command("logs", "abc", "x0", "--directory", str(tmp_path))
    assert (refused.returncode, "as 0 or w0" in refused.stderr) == (2, True)


def test_only_colours_of_a_log_reach_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log = joined_machine(tmp_path) / "worker-0" / "output.log"
    raw = b"\x1b[31m10%\x1b[0m\r20%\n\x1b]0;owned\x07\x1b[2J\n"
    log.write_bytes(raw)
    logs("abc", 0, directory=tmp_path)
    assert capfdbinary.readouterr().out == raw
    with os.fdopen(os.dup(1), "w") as terminal:
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdout", terminal)
        logs("abc", 0, directory=tmp_path)
    shown = capfdbinary.readouterr().out
    assert shown == b"\x1b[31m10%\x1b[0m\r20%\n\\x1b]0;owned\\x07\\x1b[2J\n"
