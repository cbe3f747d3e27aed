from __future__ import annotations

import os
import subprocess
import sys

import pytest

from parallel_hpo.core.types import Slot
from parallel_hpo.devices.health import (
    HANDOVER_LIMIT_S,
    LOOK_EVERY_S,
    DeviceClear,
    holders_in_words,
    still_held,
)
from parallel_hpo.devices.library import DeviceProcess, NoDriver
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices, group
from parallel_hpo.devices.watch import DeviceWatch
from tests.devices.fakes import IDLE, STRANGER, UUIDS, FakeLibrary, used_by

GRANTS = {
    grant.name: grant for grant in group([VisibleDevice("3", UUIDS[3]), VisibleDevice("6", UUIDS[6])], 1)
}
DEAD = 4194400


def test_only_dead_unknown_processes_still_hold_a_device() -> None:
    processes = [DeviceProcess(pid, 10.0) for pid in (1, 2, 3)]
    held = still_held(processes, strangers=frozenset({1}), is_alive=lambda pid: pid == 2)
    assert [process.pid for process in held] == [3]


def test_holders_are_named_with_their_memory() -> None:
    processes = [DeviceProcess(7, 10.4), DeviceProcess(8, None)]
    assert holders_in_words(processes) == "process 7 (10 MB), process 8"


def test_an_idle_device_is_free_at_once() -> None:
    watch = DeviceWatch(GRANTS, FakeLibrary())
    watch.begin(Slot(0), "3", 100.0)
    assert watch.look_at == 100.0
    assert watch.look(100.0) == [DeviceClear(Slot(0))]
    assert watch.look_at is None


def test_a_device_is_free_once_the_dead_runs_memory_is_released() -> None:
    library = FakeLibrary()
    watch = DeviceWatch(GRANTS, library)
    library.usages[UUIDS[3]] = used_by(DEAD)
    watch.begin(Slot(0), "3", 100.0)
    assert watch.look(100.0) == []
    assert watch.look_at == 100.0 + LOOK_EVERY_S
    library.usages[UUIDS[3]] = IDLE
    assert watch.look(100.0) == []  # it is not yet time to look again
    assert watch.look(101.0) == [DeviceClear(Slot(0))]


def test_a_device_that_stays_held_is_used_after_a_timeout() -> None:
    library = FakeLibrary()
    watch = DeviceWatch(GRANTS, library)
    library.usages[UUIDS[3]] = used_by(DEAD)
    watch.begin(Slot(0), "3", 0.0)
    assert watch.look(HANDOVER_LIMIT_S - 1) == []
    held_by = f"process {DEAD} (1000 MB)"
    assert watch.look(HANDOVER_LIMIT_S) == [DeviceClear(Slot(0), held_by)]
    watch.begin(Slot(0), "3", 1000.0)  # it has outstayed one wait, and costs no second
    assert watch.look(1000.0) == [DeviceClear(Slot(0))]


def test_earlier_processes_of_others_are_ignored() -> None:
    library = FakeLibrary()
    assert library.usages[UUIDS[6]] == used_by(STRANGER)
    watch = DeviceWatch(GRANTS, library)
    watch.begin(Slot(1), "6", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(1))]


def test_living_processes_are_ignored() -> None:
    library = FakeLibrary()
    watch = DeviceWatch(GRANTS, library)
    library.usages[UUIDS[3]] = used_by(os.getpid())
    watch.begin(Slot(0), "3", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(0))]


def test_a_zombie_still_holds_its_device() -> None:
    library = FakeLibrary()
    watch = DeviceWatch(GRANTS, library)
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # its end closes the pipe; nobody has waited for it yet
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    library.usages[UUIDS[3]] = used_by(child.pid)
    watch.begin(Slot(0), "3", 0.0)
    assert watch.look(0.0) == []
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("library", [NoDriver("none"), FakeLibrary(usages={UUIDS[3]: None})])
def test_there_is_no_wait_if_the_driver_reports_no_processes(library: FakeLibrary | NoDriver) -> None:
    watch = DeviceWatch({"3": GRANTS["3"], "x": WorkerDevices((VisibleDevice("x"),))}, library)
    watch.begin(Slot(0), "3", 0.0)
    watch.begin(Slot(1), "x", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(0)), DeviceClear(Slot(1))]
