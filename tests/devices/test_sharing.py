"""How runs share a device, its memory and energy, and when it is free for the next run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption, in_words, total
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.health import HANDOVER_LIMIT_S, LOOK_EVERY_S, DeviceClear, holders_in_words
from parallel_hpo.devices.library import DeviceProcess, NoDriver, Usage
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices, group
from parallel_hpo.devices.sharing import (
    FIRST_RUNS,
    FREE_AFTER_S,
    MARGIN,
    Counter,
    DeviceMemorySeen,
    DevicePresence,
    EnergyAccount,
    Occupancy,
    Reading,
    begin,
    counted_between,
    end,
    note_free,
    note_users,
)
from parallel_hpo.devices.watch import READ_EVERY_S, DeviceWatch, Meter, Rapl
from tests.devices.fakes import IDLE, STRANGER, UUIDS, FakeLibrary, used_by

ROOM_MB = 80_000.0


def measured(*used_mb: float) -> Occupancy:
    """A device whose first runs have ended."""
    occupancy = Occupancy(most=99)
    for each in used_mb:
        occupancy = occupancy.seen("3", DeviceMemorySeen(Slot(0), each, ROOM_MB))
    for _ in range(FIRST_RUNS):
        occupancy = occupancy.run_measured("3")
    return occupancy


@given(st.lists(st.floats(1.0, ROOM_MB), min_size=1))
def test_the_number_of_workers_follows_from_peak_memory_and_margin(used_mb: list[float]) -> None:
    fits, usable_mb = measured(*used_mb).of("3").fits, ROOM_MB * (1 - MARGIN)
    assert fits == 1 or fits * max(used_mb) <= usable_mb * 1.001
    assert (fits + 1) * max(used_mb) > usable_mb * 0.999


def test_one_worker_uses_a_device_until_memory_is_measured() -> None:
    occupancy = Occupancy(most=99).seen("3", DeviceMemorySeen(Slot(0), 10.0, ROOM_MB)).run_measured("3")
    assert occupancy.of("3").fits == 1
    assert occupancy.run_measured("3").of("3").fits > 1
    assert measured().of("3").fits == 1
    assert measured(0.0).of("3").fits == 1  # a run that computed elsewhere is no measurement
    assert measured(ROOM_MB, 2 * ROOM_MB).of("3").fits == 1
    assert measured(10.0).of("5").fits == 1  # another device is measured by itself


@given(st.floats(100.0, 20_000.0), st.lists(st.integers(2, 12), min_size=1))
def test_out_of_memory_lowers_the_number_of_workers_by_one(used_mb: float, together: list[int]) -> None:
    occupancy = measured(used_mb)
    fitted = occupancy.of("3").fits
    for workers in together:
        occupancy = occupancy.shrink("3", workers)
    assert occupancy.of("3").fits == max(1, min(fitted, *(workers - 1 for workers in together)))


def test_each_workers_part_of_the_free_memory_is_measured() -> None:
    processes = (DeviceProcess(11, 1000.0), DeviceProcess(12, 500.0), DeviceProcess(STRANGER, 4000.0))
    library = FakeLibrary(usages={UUIDS[3]: Usage(6000.0, 80_000.0, (*processes, DeviceProcess(13, None)))})
    watch = DeviceWatch({"3": WorkerDevices((VisibleDevice("3", UUIDS[3]),))}, library)
    owners = {11: Slot(0), 12: Slot(0), 13: Slot(1)}
    assert watch.held("3", owners.get) == [DeviceMemorySeen(Slot(0), 1500.0, 75_500.0)]


DEVICE = Counter("GPU-1")
PACKAGE = Counter("intel-rapl:0", of_device=False, range_j=1000.0)
WATTS = 100.0


def read(at: float) -> Mapping[Counter, Reading]:
    return {DEVICE: Reading(at, WATTS * at), PACKAGE: Reading(at, (WATTS * at) % 1000.0)}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 9.0)), max_size=30))
def test_the_consumption_of_attempts_adds_up_to_the_counters(steps: list[tuple[int, float]]) -> None:
    account, now, busy_s, used = EnergyAccount(), 5.0, 0.0, []
    for number, passes_s in steps:  # an active slot ends, an idle one begins
        slot = Slot(number)
        busy_s += passes_s if account.counters else 0.0
        now += passes_s
        if slot in account.counters:
            account, one = end(account, slot, read(now))
            used.append(one)
        else:
            account = begin(account, slot, read(now))
    for slot in tuple(account.counters):
        account, one = end(account, slot, read(now))
        used.append(one)
    everything = total(used)
    assert (everything.device_hours or 0.0) == pytest.approx(busy_s / 3600)
    assert (everything.device_kwh or 0.0) == pytest.approx(WATTS * busy_s / JOULES_PER_KWH)
    assert (everything.cpu_kwh or 0.0) == pytest.approx(WATTS * busy_s / JOULES_PER_KWH)


@given(st.floats(0, 1e6), st.floats(0, 999))
def test_a_counter_may_wrap_around(before: float, joules: float) -> None:
    counted = counted_between(before % 1000, (before + joules) % 1000, 1000.0)
    assert counted == pytest.approx(joules, abs=1e-6) or counted == pytest.approx(joules - 1000, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "range_j"), [(None, 5.0, 9.0), (5.0, None, 9.0), (5.0, 1.0, None), (None, None, None)]
)
def test_unknown_energy_is_not_zero(before: float | None, after: float | None, range_j: float | None) -> None:
    assert counted_between(before, after, range_j) is None


def test_runs_that_share_a_device_share_its_time_and_energy() -> None:
    account = begin(EnergyAccount(), Slot(0), {DEVICE: Reading(0.0, 0.0)})
    account = begin(account, Slot(1), {DEVICE: Reading(3600.0, 3.6e6)})
    account, first = end(account, Slot(0), {DEVICE: Reading(7200.0, 7.2e6)})
    account, second = end(account, Slot(1), {DEVICE: Reading(10800.0, 18.0e6)})
    assert (first.device_hours, first.device_kwh) == (1.5, 1.5)
    assert (second.device_hours, second.device_kwh) == (1.5, 3.5)
    assert account.in_use == frozenset()


def test_a_worker_with_two_devices_uses_both_of_them() -> None:
    readings = {Counter(name): Reading(0.0, None) for name in ("GPU-1", "GPU-2")}
    account = begin(EnergyAccount(), Slot(0), readings)
    _, used = end(account, Slot(0), {counter: Reading(1800.0, None) for counter in readings})
    assert used == Consumption(device_hours=1.0)


def test_sums_are_over_known_values() -> None:
    parts = [Consumption(1.0, None, None), Consumption(2.0, 0.5, None), Consumption()]
    assert total(parts) == Consumption(3.0, 0.5, None)
    assert not total([])
    assert in_words(Consumption(0.012345, 123.456, None)) == "0.0123 device hours, 123.5 kWh of devices"


WHO = {"0": "process 7 computes on it"}


def test_a_device_with_another_user_is_left_at_once_and_returns_after_a_delay() -> None:
    away = note_users(DevicePresence(), WHO, 100.0)
    assert "0" in away.in_use
    left = note_users(away, {}, 200.0)
    assert left.back_at == {"0": 200.0 + FREE_AFTER_S}
    assert note_free(left, 199.9 + FREE_AFTER_S) == left
    assert note_free(left, 200.0 + FREE_AFTER_S) == DevicePresence()
    assert note_users(left, {"1": "x"}, 205.0).back_at["0"] == 200.0 + FREE_AFTER_S
    again = note_users(left, WHO, 201.0)
    assert (dict(again.in_use), dict(again.back_at)) == (WHO, {})
    assert note_free(again, 1000.0) == again


GRANTS = {
    grant.name: grant for grant in group([VisibleDevice("3", UUIDS[3]), VisibleDevice("6", UUIDS[6])], 1)
}
DEAD = 4194400


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def watch(library: FakeLibrary) -> DeviceWatch:
    """A watch of device 3, and of 6, which another user's process uses from the beginning."""
    return DeviceWatch(GRANTS, library)


def test_an_idle_device_is_free_at_once(watch: DeviceWatch) -> None:
    watch.begin(Slot(0), "3", 100.0)
    assert watch.look_at == 100.0
    assert watch.look(100.0) == [DeviceClear(Slot(0))]
    assert watch.look_at is None


def test_a_device_is_free_once_the_dead_runs_memory_is_released(
    watch: DeviceWatch, library: FakeLibrary
) -> None:
    library.usages[UUIDS[3]] = used_by(DEAD)
    watch.begin(Slot(0), "3", 100.0)
    assert watch.look(100.0) == []
    assert watch.look_at == 100.0 + LOOK_EVERY_S
    library.usages[UUIDS[3]] = IDLE
    assert watch.look(100.0) == []  # it is not yet time to look again
    assert watch.look(101.0) == [DeviceClear(Slot(0))]


def test_a_device_that_stays_held_is_used_after_a_timeout(watch: DeviceWatch, library: FakeLibrary) -> None:
    library.usages[UUIDS[3]] = used_by(DEAD)
    watch.begin(Slot(0), "3", 0.0)
    assert watch.look(HANDOVER_LIMIT_S - 1) == []
    held_by = f"process {DEAD} (1000 MB)"
    assert watch.look(HANDOVER_LIMIT_S) == [DeviceClear(Slot(0), held_by)]
    watch.begin(Slot(0), "3", 1000.0)  # the same process delays only one run
    assert watch.look(1000.0) == [DeviceClear(Slot(0))]
    holders = [DeviceProcess(7, 10.4), DeviceProcess(8, None)]
    assert holders_in_words(holders) == "process 7 (10 MB), process 8"


def test_a_zombie_still_holds_its_device(watch: DeviceWatch, library: FakeLibrary) -> None:
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
def test_a_device_is_free_at_once_if_the_driver_reports_no_processes(library: FakeLibrary | NoDriver) -> None:
    watch = DeviceWatch({"3": GRANTS["3"], "x": WorkerDevices((VisibleDevice("x"),))}, library)
    watch.begin(Slot(0), "3", 0.0)
    watch.begin(Slot(1), "x", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(0)), DeviceClear(Slot(1))]


def test_living_and_earlier_processes_do_not_block_a_device(watch: DeviceWatch, library: FakeLibrary) -> None:
    assert library.usages[UUIDS[6]] == used_by(STRANGER)
    library.usages[UUIDS[3]] = used_by(os.getpid())
    watch.begin(Slot(0), "3", 0.0)
    watch.begin(Slot(1), "6", 0.0)
    assert watch.look(0.0) == [DeviceClear(Slot(0)), DeviceClear(Slot(1))]


def write_zone(root: Path, zone: str, name: str, energy_uj: int | None, range_uj: int = 1000) -> None:
    (root / zone).mkdir(parents=True, exist_ok=True)
    (root / zone / "name").write_text(f"{name}\n")
    (root / zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    if energy_uj is not None:
        (root / zone / "energy_uj").write_text(f"{energy_uj}\n")


def test_only_readable_processor_packages_have_counters(tmp_path: Path) -> None:
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
    meter = Meter(GRANTS, library, Rapl(tmp_path))
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
    meter = Meter(GRANTS, FakeLibrary(), Rapl(tmp_path))
    meter.begin(Slot(0), "3", 0.0)
    meter.begin(Slot(1), "", 0.0)
    assert meter.end(Slot(0), 1800.0) == Consumption(device_hours=0.5)
    assert meter.end(Slot(1), 1800.0) == Consumption()
