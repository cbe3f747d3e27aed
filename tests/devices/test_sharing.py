"""How runs share a device: its memory, its energy, and other users."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption, in_words, total
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.library import DeviceProcess, Usage
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices
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
from parallel_hpo.devices.watch import DeviceWatch
from tests.devices.fakes import STRANGER, UUIDS, FakeLibrary

ROOM_MB = 80_000.0


def seen(used_mb: float, room_mb: float = ROOM_MB) -> DeviceMemorySeen:
    return DeviceMemorySeen(Slot(0), used_mb, room_mb)


def measured(*used_mb: float) -> Occupancy:
    """A device whose first runs have ended."""
    occupancy = Occupancy(most=99)
    for each in used_mb:
        occupancy = occupancy.seen("3", seen(each))
    for _ in range(FIRST_RUNS):
        occupancy = occupancy.run_measured("3")
    return occupancy


@given(st.lists(st.floats(1.0, ROOM_MB), min_size=1))
def test_the_number_of_workers_follows_from_peak_memory_and_margin(used_mb: list[float]) -> None:
    fits, usable_mb = measured(*used_mb).of("3").fits, ROOM_MB * (1 - MARGIN)
    assert fits == 1 or fits * max(used_mb) <= usable_mb * 1.001
    assert (fits + 1) * max(used_mb) > usable_mb * 0.999


def test_one_worker_uses_a_device_until_memory_is_measured() -> None:
    occupancy = Occupancy(most=99).seen("3", seen(10.0)).run_measured("3")
    assert occupancy.of("3").fits == 1
    assert occupancy.run_measured("3").of("3").fits > 1
    assert measured().of("3").fits == 1
    assert measured(0.0).of("3").fits == 1  # a run that computed elsewhere says nothing
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
def test_attempts_use_what_the_counters_counted_meanwhile(steps: list[tuple[int, float]]) -> None:
    account, now, busy_s, used = EnergyAccount(), 5.0, 0.0, []
    for number, passes_s in steps:  # a slot that is on ends, one that is not begins
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


def test_a_device_is_away_at_once_and_back_after_a_time_without_its_user() -> None:
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
