"""Devices that keep failing, and other users of devices and of the machine."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.tables import FaultAction
from parallel_hpo.core.types import Outcome
from parallel_hpo.devices.health import (
    FAILURES_IN_A_ROW,
    QUARANTINE_MAX_S,
    QUARANTINE_S,
    FaultRule,
    Health,
    find_action,
    note_run,
)
from parallel_hpo.devices.library import DeviceProcess
from parallel_hpo.devices.placing import is_foreign
from parallel_hpo.devices.sharing import OtherUsersSeen
from parallel_hpo.devices.users import IDLE_S, DeviceUsers, UserWatch, ask_logind, at_a_terminal, who_is_there
from tests.devices.fakes import STRANGER

A, B = "3", "5"
FINISHED, FAILED, CRASHED, STOPPED = Outcome.FINISHED, Outcome.FAILED, Outcome.CRASHED, Outcome.STOPPED
KEEP, RECYCLE, QUARANTINE = FaultAction.KEEP, FaultAction.RECYCLE, FaultAction.QUARANTINE
MANY = FAILURES_IN_A_ROW


def after(*runs: tuple[str, Outcome], now: float = 0.0, health: Health | None = None) -> Health:
    """Return the health of devices A and B after these runs."""
    health = health or Health()
    for device, outcome in runs:
        health = note_run(health, device, outcome, others=frozenset({A, B} - {device}), now=now)
    return health


@pytest.mark.parametrize(
    ("runs", "is_quarantined"),
    [
        ([(B, FINISHED), (A, FAILED)] * MANY, True),
        ([(A, CRASHED)] * MANY, True),
        ([*[(A, FAILED)] * (MANY - 1), (A, FINISHED), *[(A, FAILED)] * (MANY - 1)], False),
        ([(A, STOPPED)] * 10, False),
        ([(A, FAILED), (B, FAILED)] * 10, False),
    ],
)
def test_repeated_failures_quarantine_a_device_unless_runs_fail_everywhere(
    runs: list[tuple[str, Outcome]], is_quarantined: bool
) -> None:
    health = after(*runs)
    assert health.is_quarantined(A, QUARANTINE_S - 1) is is_quarantined
    assert not health.is_quarantined(B, 0.0)


def test_a_device_fault_quarantines_at_once_but_never_the_last_device() -> None:
    health = note_run(Health(), A, FAILED, others=frozenset({B}), now=0.0, faulty=True)
    assert health.is_quarantined(A, 0.0)
    health = note_run(health, B, FAILED, others=frozenset({A}), now=1.0, faulty=True)
    assert not health.is_quarantined(B, 1.0)
    sole = note_run(Health(), A, FAILED, others=frozenset(), now=0.0, faulty=True)
    assert not sole.is_quarantined(A, 0.0)


def test_a_device_is_on_probation_after_its_quarantine() -> None:
    held = after(*[(A, FAILED)] * MANY)
    assert not held.is_on_probation(A, QUARANTINE_S - 1)
    assert held.is_on_probation(A, QUARANTINE_S)
    good = after((A, FINISHED), now=QUARANTINE_S, health=held)
    assert (good.is_on_probation(A, QUARANTINE_S), good.of(A).quarantines) == (False, 0)
    bad = after((A, FAILED), now=QUARANTINE_S, health=held)
    assert bad.is_quarantined(A, QUARANTINE_S + 2 * QUARANTINE_S - 1)
    assert bad.is_on_probation(A, QUARANTINE_S + 2 * QUARANTINE_S)
    stopped = after((A, STOPPED), now=QUARANTINE_S, health=held)
    assert stopped.is_on_probation(A, QUARANTINE_S)


RUNS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Outcome), st.floats(0, 2000)), max_size=60)


@given(RUNS)
def test_some_device_is_always_in_use_and_every_quarantine_ends(
    runs: list[tuple[str, Outcome, float]],
) -> None:
    health, now = Health(), 0.0
    for device, outcome, later in runs:
        now += later
        health = note_run(health, device, outcome, others=frozenset("abc") - {device}, now=now)
        assert not all(health.is_quarantined(each, now) for each in "abc")
        for each in "abc":
            assert (health.of(each).held_until or 0.0) <= now + QUARANTINE_MAX_S


@pytest.mark.parametrize(
    ("reason", "action"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB (GPU 0; …)", RECYCLE),
        ("OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB", RECYCLE),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", RECYCLE),
        ("ResourceExhaustedError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 b", RECYCLE),
        ("RuntimeError: CUDA error: device-side assert triggered", RECYCLE),
        ("AcceleratorError: CUDA error: an illegal memory access was encountered", RECYCLE),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", QUARANTINE),
        ("ValueError: no good", KEEP),
        ("MemoryError", KEEP),
        ("", KEEP),
    ],
)
def test_the_action_after_a_failure_follows_from_its_reason(reason: str, action: FaultAction) -> None:
    assert find_action(reason) is action


def test_configured_patterns_override_the_built_in_ones() -> None:
    own = (FaultRule("cuda out of MEMORY", KEEP), FaultRule("no good", QUARANTINE))
    assert find_action("OutOfMemoryError: CUDA out of memory.", own) is KEEP
    assert find_action("ValueError: no good", own) is QUARANTINE


WHO = {"0": "process 7 computes on it"}


def users_of(
    pids: Mapping[str, list[int]], *, there: str = "", strange: Callable[[int], bool] = is_foreign
) -> DeviceUsers:
    return DeviceUsers(
        pids,
        lambda name: [DeviceProcess(pid, 1.0) for pid in pids.get(name, [])],
        is_foreign=strange,
        who_is_there=lambda: there,
    )


LOOK: Final = """
import os, sys
from parallel_hpo.devices.placing import is_foreign
print([is_foreign(pid) for pid in (os.getpid(), os.getppid(), int(sys.argv[1]))])
"""


def test_ancestors_and_descendants_are_not_foreign_and_others_are() -> None:
    """In a child of this process: itself, its parent, and its parent's other child."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        command = [sys.executable, "-c", LOOK, str(other.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "[False, False, True]\n"
        assert not is_foreign(other.pid), "to this process it is a child"
        other.communicate(b"\n")


def test_a_process_of_another_user_claims_its_device() -> None:
    pids: dict[str, list[int]] = {"0": [], "1": []}
    seen = users_of(pids, strange=lambda pid: pid == os.getppid())
    pids |= {"0": [os.getpid()], "1": [os.getpid(), os.getppid()]}
    assert seen.look() == {"1": f"process {os.getppid()} computes on it"}


def test_an_unknown_process_counts_only_if_it_used_the_device_from_the_start() -> None:
    pids = {"0": [STRANGER], "1": []}
    seen = users_of(pids)
    pids["1"] = [STRANGER + 1]  # within a container the driver uses ids of another pid namespace
    assert seen.look() == {"0": f"process {STRANGER} computes on it"}
    pids["0"] = []
    assert seen.look() == {}


def test_a_local_user_claims_all_devices() -> None:
    there = "the session of ada is active"
    assert users_of({"0": [], "1": []}, there=there).look() == {"0": there, "1": there}
    assert users_of({}, there=there).look() == {"": there}
    assert users_of({}).look() == {}


def test_only_changes_of_other_users_are_reported() -> None:
    looks = iter([{}, WHO, WHO, {}])
    told: queue.SimpleQueue[OtherUsersSeen] = queue.SimpleQueue()
    watch = UserWatch(lambda: next(looks, {}), told.put, seen={}, every_s=0.001)
    watch.start()
    try:
        assert [told.get(timeout=30).seen for _ in range(2)] == [WHO, {}]
    finally:
        watch.close()
        watch.join()
    assert told.empty()


AT_SEAT: Final = {"Name": "ada", "Seat": "seat0", "State": "active", "Class": "user"} | dict.fromkeys(
    ("IdleHint", "LockedHint"), "no"
)


def logind(*sessions: Mapping[str, str]) -> Callable[..., str | None]:
    """Return a fake `loginctl`."""

    def ask(*words: str) -> str | None:
        if words[0] == "list-sessions":
            return "".join(f"{number:>6} 1000 ada seat0\n" for number in range(len(sessions)))
        asked = [words[place + 1] for place, word in enumerate(words) if word == "-p"]
        session = sessions[int(words[1])]
        return "".join(f"{name}={session[name]}\n" for name in asked if name in session)

    return ask


@pytest.mark.parametrize(
    "unlike",
    [
        *({"IdleHint": "yes"}, {"LockedHint": "yes"}, {"State": "online"}, {"State": "closing"}),
        *({"Seat": ""}, {"Class": "greeter"}, {"Class": "manager"}),
    ],
)
def test_a_session_at_a_seat_is_a_local_user_unless_idle_locked_remote_or_hidden(
    unlike: dict[str, str],
) -> None:
    assert who_is_there(logind(AT_SEAT)) == "the session of ada is active"
    assert who_is_there(logind(AT_SEAT | unlike)) == ""
    assert who_is_there(logind(AT_SEAT | unlike, AT_SEAT | {"Name": "eve"})).endswith("eve is active")
    assert who_is_there(logind()) == ""
    assert who_is_there(lambda *words: "  1 0 ada\n" if words[0] == "list-sessions" else None) == ""


def test_local_terminals_count_without_logind_until_they_are_idle(tmp_path: Path) -> None:
    terminal = tmp_path / "tty1"
    terminal.touch()
    os.utime(terminal, (1000.0, 1000.0))
    logins = (("bot", None, ""), ("eve", str(terminal), "far.example"), ("ada", str(terminal), ""))
    users = [SimpleNamespace(name=name, terminal=where, host=host) for name, where, host in logins]
    assert at_a_terminal(users, 1000.0 + IDLE_S - 1).startswith("ada is at ")
    assert at_a_terminal(users, 1000.0 + IDLE_S) == ""
    assert at_a_terminal(users[:2], 1000.0) == ""
    users[2].terminal = "no-such-terminal"
    assert at_a_terminal(users, 1000.0) == ""


def test_a_failure_of_loginctl_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "loginctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_logind("list-sessions") is None
    command.write_text('#!/bin/sh\necho "asked $*"\n[ "$1" != fail ]\n')
    command.chmod(0o755)
    assert ask_logind("list-sessions", "--no-legend") == "asked list-sessions --no-legend\n"
    assert ask_logind("fail") is None
    command.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    assert ask_logind("list-sessions", limit_s=0.1) is None
