"""Energy and device hours of attempts, by counters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import JOULES_PER_KWH, Consumption, in_words, total
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices
from parallel_hpo.devices.sharing import Counter, EnergyAccount, Reading, begin, counted_between, end
from parallel_hpo.devices.watch import READ_EVERY_S, Meter, Rapl
from tests.devices.fakes import UUIDS, FakeLibrary, as_library

DEVICE = Counter("GPU-1")
PACKAGE = Counter("intel-rapl:0", of_device=False, range_j=1000.0)
WATTS = 100.0
GRANTS = {token: WorkerDevices((VisibleDevice(token, UUIDS[int(token)]),)) for token in "01"}


def read(at: float) -> Mapping[Counter, Reading]:
    return {DEVICE: Reading(at, WATTS * at), PACKAGE: Reading(at, (WATTS * at) % 1000.0)}


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 9.0)), max_size=30))
def test_attempts_use_what_the_counters_counted_meanwhile(
    steps: list[tuple[int, float]],
) -> None:
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
    library = FakeLibrary(joules={UUIDS[1]: 1e6})
    meter = Meter(GRANTS, as_library(library), Rapl(tmp_path))
    assert meter.read_at is None
    meter.begin(Slot(0), "1", 0.0)
    assert meter.read_at == READ_EVERY_S
    write_zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, range_uj=10_000_000)
    meter.read(READ_EVERY_S - 1)  # not yet
    meter.read(READ_EVERY_S)
    assert meter.read_at == 2 * READ_EVERY_S
    write_zone(tmp_path, "intel-rapl:0", "package-0", 8_000_000, range_uj=10_000_000)
    library.joules[UUIDS[1]] += 3.6e6
    used = meter.end(Slot(0), 3600.0)
    assert (used.device_hours, used.device_kwh) == (1.0, 1.0)
    assert used.cpu_kwh == pytest.approx(18 / JOULES_PER_KWH)
    assert meter.read_at is None


def test_a_device_without_a_counter_has_only_hours(tmp_path: Path) -> None:
    meter = Meter(GRANTS, as_library(FakeLibrary()), Rapl(tmp_path))
    meter.begin(Slot(0), "0", 0.0)
    meter.begin(Slot(1), "", 0.0)
    assert meter.end(Slot(0), 1800.0) == Consumption(device_hours=0.5)
    assert meter.end(Slot(1), 1800.0) == Consumption()
