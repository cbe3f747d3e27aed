"""The number of workers that share a device by its memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Slot
from parallel_hpo.devices.library import DeviceProcess, Usage
from parallel_hpo.devices.mask import VisibleDevice, WorkerDevices
from parallel_hpo.devices.sharing import FIRST_RUNS, MARGIN, DeviceMemorySeen, Occupancy
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
