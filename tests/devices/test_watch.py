"""When a device is free for the next run, and what an attempt used by counters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.health import HANDOVER_LIMIT_S, LOOK_EVERY_S, DeviceClear, holders_in_words
from parallel_hpo.devices.library import DeviceProcess, NoDriver
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices, group
from parallel_hpo.devices.watch import READ_EVERY_S, DeviceWatch, Meter, Rapl
from tests.devices.fakes import IDLE, STRANGER, UUIDS, FakeLibrary, as_library, used_by

GRANTS = {
    grant.name: grant for grant in group([VisibleDevice("3", UUIDS[3]), VisibleDevice("6", UUIDS[6])], 1)
}
DEAD = 4194400


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


def test_living_and_earlier_processes_of_others_are_ignored() -> None:
    library = FakeLibrary()
    assert library.usages[UUIDS[6]] == used_by(STRANGER)
    watch = DeviceWatch(GRANTS, library)
    library.usages[UUIDS[3]] = used_by(os.getpid())
    watch.begin(Slot(0), "3", 0.0)
    watch.begin(Slot(1), "6", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(0)), DeviceClear(Slot(1))]


def test_holders_are_named_with_their_memory() -> None:
    assert (
        holders_in_words([DeviceProcess(7, 10.4), DeviceProcess(8, None)]) == "process 7 (10 MB), process 8"
    )


def write_zone(root: Path, zone: str, name: str, energy_uj: int | None, range_uj: int = 1000) -> None:
    (root / zone).mkdir(parents=True, exist_ok=True)
    (root / zone / "name").write_text(f"{name}\n")
    (root / zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    if energy_uj is not None:
        (root / zone / "energy_uj").write_text(f"{energy_uj}\n")


def test_readable_packages_of_processors_are_counted(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 2_500_000)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 1)
    write_zone(tmp_path, "intel-rapl:1", "psys", 1)
    write_zone(tmp_path, "intel-rapl:2", "package-1", None)
    (counter,) = Rapl(tmp_path).counters
    assert (counter.name, counter.of_device, counter.range_j) == ("intel-rapl:0", False, 0.001)
    assert Rapl(tmp_path).energy_j(counter) == 2.5
    assert Rapl(tmp_path / "absent").counters == ()


def test_the_meter_reads_before_a_counter_can_wrap(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=10_000_000)
    library = FakeLibrary(joules={UUIDS[6]: 1e6})
    meter = Meter(GRANTS, as_library(library), Rapl(tmp_path))
    assert meter.read_at is None
    meter.begin(Slot(0), "6", 0.0)
    assert meter.read_at == READ_EVERY_S
    write_zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=10_000_000)
    meter.read(READ_EVERY_S - 1)  # not yet
    meter.read(READ_EVERY_S)
    assert meter.read_at == 2 * READ_EVERY_S
    write_zone(tmp_path, "intel-rapl:0", "package-0", 8_000_000, range_uj=10_000_000)
    library.joules[UUIDS[6]] += 3.6e6
    used = meter.end(Slot(0), 3600.0)
    assert (used.device_hours, used.device_kwh) == (1.0, 1.0)
    assert used.cpu_kwh == pytest.approx(18 / JOULES_PER_KWH)
    assert meter.read_at is None


def test_a_device_without_a_counter_has_only_hours(tmp_path: Path) -> None:
    meter = Meter(GRANTS, as_library(FakeLibrary()), Rapl(tmp_path))
    meter.begin(Slot(0), "3", 0.0)
    meter.begin(Slot(1), "", 0.0)
    assert meter.end(Slot(0), 1800.0) == Consumption(device_hours=0.5)
    assert meter.end(Slot(1), 1800.0) == Consumption()
