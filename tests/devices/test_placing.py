from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.devices.placing import Machine, SlotAssignment, SweepDevices, assign_slots, is_stranger
from tests.devices.fakes import INSTANCES, STRANGER, UUIDS, FakeLibrary, used_by

NO_DRIVER = NoDriver("no NVIDIA driver is installed")
CORES = 6


def placed(
    environment: Mapping[str, str] | None = None, library: FakeLibrary | NoDriver = NO_DRIVER, **keys: Any
) -> SlotAssignment:
    section = HpoSection.model_validate({"sweep_id": "x", **keys})
    machine = Machine(environment or {}, library, lambda: CORES, lambda pid: pid == STRANGER)
    return assign_slots(section, machine)


def names(placement: SlotAssignment) -> list[str]:
    return [grant.name for grant in placement.grants]


def test_auto_leaves_out_busy_devices_with_a_note() -> None:
    placement = placed(library=FakeLibrary())
    assert names(placement) == ["0", "1", *INSTANCES, "3", "4", "5", "7"]
    assert placement.workers == 8
    (note,) = placement.notes
    assert note.warning
    assert note.text.startswith(f"device 6 is left out: process {STRANGER} computes on it")


def test_a_polite_auto_waits_for_busy_devices() -> None:
    placement = placed(library=FakeLibrary(), polite=True)
    assert "6" in names(placement)
    assert placement.notes == ()


def test_auto_stays_within_the_parents_mask() -> None:
    assert names(placed({"CUDA_VISIBLE_DEVICES": "3,6,5"}, FakeLibrary())) == ["3", "5"]


def test_a_named_device_is_used_even_if_it_is_busy() -> None:
    placement = placed(library=FakeLibrary(), devices=[6])
    assert names(placement) == ["6"]
    assert placement.notes == ()


def test_a_named_device_is_refused_without_devices() -> None:
    with pytest.raises(ConfigError, match=r"names '0', but there is no such device here: no NVIDIA driver"):
        placed(devices=["0"])


def test_a_device_of_the_parents_mask_may_be_named_without_a_driver() -> None:
    assert names(placed({"CUDA_VISIBLE_DEVICES": "0,1"}, devices=["1"])) == ["1"]
    assert names(placed(library=NoDriver("it is ill", broken=True), devices=["1"])) == ["1"]


def test_an_error_says_what_to_do_if_all_devices_are_busy() -> None:
    with pytest.raises(ConfigError, match=rf"process {STRANGER} computes on it(.|\n)*hpo\.devices"):
        placed({"CUDA_VISIBLE_DEVICES": "6"}, FakeLibrary())


def test_own_processes_do_not_make_a_device_busy() -> None:
    library = FakeLibrary(usages={UUIDS[3]: used_by(os.getpid())})
    assert names(placed({"CUDA_VISIBLE_DEVICES": "3"}, library)) == ["3"]


def test_devices_are_used_if_the_driver_reports_no_processes() -> None:
    library = FakeLibrary(usages={UUIDS[3]: None})
    assert names(placed({"CUDA_VISIBLE_DEVICES": "3"}, library)) == ["3"]


def test_the_masks_tokens_are_used_unchecked_without_a_driver() -> None:
    assert names(placed({"CUDA_VISIBLE_DEVICES": "3,5"})) == ["3", "5"]


def test_there_is_a_worker_per_core_without_devices() -> None:
    placement = placed()
    assert (placement.workers, names(placement)) == (CORES, [])


@pytest.mark.parametrize("text", ["", "-1"])
def test_an_empty_mask_means_the_processor(text: str) -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": text}, FakeLibrary(), workers=2)
    assert (placement.workers, names(placement)) == (2, [])


def test_workers_share_a_device_if_configured() -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": "3,5"}, workers_per_device=3)
    assert placement.workers == 6
    assert placed({"CUDA_VISIBLE_DEVICES": "3,5"}, workers_per_device=3, workers=4).workers == 4


def test_sharing_by_memory_begins_with_one_worker_per_device() -> None:
    placement = placed(library=FakeLibrary(), devices=[3, 5], workers_per_device="auto")
    assert (placement.workers, placement.most_workers) == (2, CORES)
    asked = placed(library=FakeLibrary(), devices=[3, 5], workers_per_device="auto", workers=9)
    assert (asked.workers, asked.most_workers) == (2, 9)
    fewer = placed(library=FakeLibrary(), devices=[3, 5], workers_per_device="auto", workers=1)
    assert (fewer.workers, fewer.most_workers) == (1, 1)
    assert placed(workers_per_device="auto").most_workers is None, "there are no devices to share"


def test_too_many_workers_for_the_devices_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"hpo\.workers is 3"):
        placed({"CUDA_VISIBLE_DEVICES": "3,5"}, workers=3)


def test_several_devices_per_worker_need_devices() -> None:
    with pytest.raises(ConfigError, match=r"hpo\.devices_per_worker is 2, but there is no device"):
        placed(devices_per_worker=2)


@pytest.mark.parametrize(
    ("mask", "named", "driver"),
    [(None, INSTANCES[0], True), ("0,2", "2", True), (",".join(INSTANCES), INSTANCES[0], False)],
)
def test_several_devices_per_worker_can_not_be_mig_instances(
    mask: str | None, named: str, driver: bool
) -> None:
    environment = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    with pytest.raises(ConfigError, match=rf"hpo\.devices_per_worker is 2, but {named} is a MIG instance"):
        placed(environment, FakeLibrary() if driver else NO_DRIVER, devices_per_worker=2)
    assert names(placed(library=FakeLibrary(), devices=[0, 1], devices_per_worker=2)) == ["0,1"]


def test_a_mask_entry_that_hides_others_is_named() -> None:
    (note,) = placed({"CUDA_VISIBLE_DEVICES": "3,99,5"}, FakeLibrary()).notes
    assert "CUDA_VISIBLE_DEVICES=3,99,5 hides 99, 5" in note.text


def test_a_driver_that_is_broken_is_named() -> None:
    (note,) = placed(library=NoDriver("Driver/library version mismatch", broken=True)).notes
    assert "Driver/library version mismatch" in note.text


def variables(placement: SlotAssignment, slot: int = 0) -> dict[str, str]:
    equipment = SweepDevices(placement, NO_DRIVER)
    return equipment.variables(Slot(slot), equipment.names[slot] if equipment.names else "")


def test_a_worker_finds_its_token_in_the_mask() -> None:
    own = variables(placed({"CUDA_VISIBLE_DEVICES": f"3,{UUIDS[5]}"}), 1)
    assert own == {"CUDA_VISIBLE_DEVICES": UUIDS[5], "PARALLEL_HPO_DEVICE": UUIDS[5]}


def test_amds_mask_is_used_and_further_masks_are_left_out() -> None:
    parent = {"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "0,1"}
    placement = placed(parent)
    assert variables(placement, 1) == {"ROCR_VISIBLE_DEVICES": "3", "PARALLEL_HPO_DEVICE": "3"}
    assert "HIP_VISIBLE_DEVICES" in placement.superseded


def test_workers_on_the_cpu_see_no_device() -> None:
    own = variables(placed({"CUDA_VISIBLE_DEVICES": "3"}, FakeLibrary(), devices="cpu"))
    assert own == {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "PARALLEL_HPO_DEVICE": "cpu"}


def test_the_parents_variables_are_unchanged_without_devices() -> None:
    assert variables(placed()) == {"PARALLEL_HPO_DEVICE": "cpu"}


def test_each_worker_with_several_devices_gets_a_new_port() -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, devices_per_worker=2)
    equipment = SweepDevices(placement, NO_DRIVER)
    pairs = [(Slot(n % 2), equipment.names[n % 2]) for n in range(4)]
    ports = [equipment.variables(slot, name)["MASTER_PORT"] for slot, name in pairs]
    assert ports[0] != ports[1]
    assert ports[0] != ports[2]
    assert ports[1] != ports[2] != ports[3]
    assert all(1024 <= int(port) < 65536 for port in ports)


@pytest.mark.parametrize(
    ("cores", "bound"),
    [(range(8), (0, 1, 2, 3)), ((2, 3, 9), (2, 3)), (range(4), None), ((5, 6), None), ((), None)],
)
def test_a_worker_is_bound_to_the_cores_near_its_device(
    cores: range | tuple[int, ...], bound: tuple[int, ...] | None
) -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": "3"}, FakeLibrary())
    equipment = SweepDevices(placement, NO_DRIVER, cores=lambda: frozenset(cores))
    assert equipment.cpus("3") == bound
    assert equipment.cpus("") is None


def test_only_ancestors_and_descendants_are_own_processes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not any(is_stranger(pid) for pid in (os.getpid(), os.getppid(), child.pid))
    finally:
        child.communicate(b"\n")
    assert is_stranger(STRANGER)
