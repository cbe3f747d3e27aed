from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.library import MaskVariable, NoDriver
from parallel_hpo.devices.placing import Machine, SlotAssignment, SweepDevices, assign_slots
from tests.devices.fakes import INSTANCES, STRANGER, UUIDS, FakeLibrary, used_by

NO_DRIVER = NoDriver("no NVIDIA driver is installed")
BROKEN = NoDriver("Driver/library version mismatch", broken=True)
FAKE = FakeLibrary()
CORES = 6
MIG = ",".join(INSTANCES)


def placed(
    mask: str | None = None, library: FakeLibrary | NoDriver = NO_DRIVER, **keys: Any
) -> SlotAssignment:
    return placed_with({} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}, library, **keys)


def placed_with(
    environment: Mapping[str, str], library: FakeLibrary | NoDriver = NO_DRIVER, **keys: Any
) -> SlotAssignment:
    section = HpoSection.model_validate({"sweep_id": "x", **keys})
    machine = Machine(environment, library, lambda: CORES, lambda pid: pid == STRANGER)
    return assign_slots(section, machine)


def names(placement: SlotAssignment) -> list[str]:
    return [grant.name for grant in placement.grants]


@pytest.mark.parametrize(
    ("mask", "library", "keys", "used", "note"),
    [
        (None, FAKE, {}, ["0", "1", *INSTANCES, "3", "4", "5", "7"], f"6 is left out: process {STRANGER}"),
        (None, FAKE, {"polite": True}, ["0", "1", *INSTANCES, "3", "4", "5", "6", "7"], None),
        ("3,6,5", FAKE, {}, ["3", "5"], "device 6 is left out"),
        (None, FAKE, {"devices": [6]}, ["6"], None),
        ("0,1", NO_DRIVER, {"devices": ["1"]}, ["1"], None),
        (None, BROKEN, {"devices": ["1"]}, ["1"], "Driver/library version mismatch"),
        (None, BROKEN, {}, [], "Driver/library version mismatch"),
        ("3", FakeLibrary(usages={UUIDS[3]: used_by(os.getpid())}), {}, ["3"], None),
        ("3", FakeLibrary(usages={UUIDS[3]: None}), {}, ["3"], None),
        ("3,5", NO_DRIVER, {}, ["3", "5"], None),
        ("3,99,5", FAKE, {}, ["3"], "CUDA_VISIBLE_DEVICES=3,99,5 hides 99, 5"),
        (None, FAKE, {"devices": [0, 1], "devices_per_worker": 2}, ["0,1"], None),
    ],
)
def test_a_sweep_uses_free_visible_or_named_devices_and_notes_others(
    mask: str | None, library: FakeLibrary | NoDriver, keys: dict[str, Any], used: list[str], note: str | None
) -> None:
    placement = placed(mask, library, **keys)
    assert names(placement) == used
    assert placement.workers == (len(used) or CORES)
    assert len(placement.notes) == (note is not None)
    assert all(each.warning and note is not None and note in each.text for each in placement.notes)


@pytest.mark.parametrize(
    ("mask", "library", "keys", "words"),
    [
        (None, NO_DRIVER, {"devices": ["0"]}, "names '0', but there is no such device here: no NV"),
        ("6", FAKE, {}, rf"process {STRANGER} computes on it(.|\n)*hpo\.devices"),
        ("3,5", NO_DRIVER, {"workers": 3}, r"hpo\.workers is 3"),
        (None, NO_DRIVER, {"devices_per_worker": 2}, r"hpo\.devices_per_worker is 2, but there is no device"),
        (None, FAKE, {"devices_per_worker": 2}, f"{INSTANCES[0]} is a MIG instance"),
        ("0,2", FAKE, {"devices_per_worker": 2}, "2 is a MIG instance"),
        (MIG, NO_DRIVER, {"devices_per_worker": 2}, f"{INSTANCES[0]} is a MIG instance"),
    ],
)
def test_a_sweep_without_the_devices_that_it_asks_for_is_refused(
    mask: str | None, library: FakeLibrary | NoDriver, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        placed(mask, library, **keys)


def test_a_sweep_without_devices_has_a_worker_per_core() -> None:
    assert (placed().workers, placed().most_workers) == (CORES, None)
    for text in ("", "-1"):
        placement = placed(text, FAKE, workers=2)
        assert (placement.workers, names(placement)) == (2, [])


def test_workers_share_a_device_by_number_or_by_memory() -> None:
    assert placed("3,5", workers_per_device=3).workers == 6
    assert placed("3,5", workers_per_device=3, workers=4).workers == 4
    by_memory: dict[str, Any] = {"devices": [3, 5], "workers_per_device": "auto"}
    for more, begins, most in (({}, 2, CORES), ({"workers": 9}, 2, 9), ({"workers": 1}, 1, 1)):
        shared = placed(library=FAKE, **by_memory | more)
        assert (shared.workers, shared.most_workers) == (begins, most)
    assert placed(workers_per_device="auto").most_workers is None, "there are no devices to share"


def variables(placement: SlotAssignment, slot: int) -> dict[str, str]:
    devices = SweepDevices(placement, NO_DRIVER)
    return devices.variables(Slot(slot), devices.names[slot] if devices.names else "")


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (placed(f"3,{UUIDS[5]}"), {"CUDA_VISIBLE_DEVICES": UUIDS[5], "PARALLEL_HPO_DEVICE": UUIDS[5]}),
        (
            placed_with({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "0,1"}),
            {"ROCR_VISIBLE_DEVICES": "3", "PARALLEL_HPO_DEVICE": "3"},
        ),
        (
            placed("3", FAKE, devices="cpu"),
            {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "PARALLEL_HPO_DEVICE": "cpu"},
        ),
        (placed(), {"PARALLEL_HPO_DEVICE": "cpu"}),
    ],
)
def test_a_worker_finds_its_device_alone_in_the_mask(
    placement: SlotAssignment, expected: dict[str, str]
) -> None:
    assert variables(placement, 1) == expected
    assert ("HIP_VISIBLE_DEVICES" in placement.superseded) is (placement.variable is MaskVariable.ROCR)


def test_each_worker_with_several_devices_gets_a_new_port() -> None:
    devices = SweepDevices(placed("0,1,2,3", devices_per_worker=2), NO_DRIVER)
    first, second, third, fourth = (
        int(devices.variables(Slot(n % 2), devices.names[n % 2])["MASTER_PORT"]) for n in range(4)
    )
    assert first != second != third != fourth
    assert first != third
    assert all(1024 <= port < 65536 for port in (first, second, third, fourth))


@pytest.mark.parametrize(
    ("cores", "bound"),
    [(range(8), (0, 1, 2, 3)), ((2, 3, 9), (2, 3)), (range(4), None), ((5, 6), None), ((), None)],
)
def test_a_worker_is_bound_to_the_cores_near_its_device(
    cores: range | tuple[int, ...], bound: tuple[int, ...] | None
) -> None:
    devices = SweepDevices(placed("3", FAKE), NO_DRIVER, cores=lambda: frozenset(cores))
    assert (devices.cpus("3"), devices.cpus("")) == (bound, None)
