"""AMD's driver by its files: two processors and three devices, one of them hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.config.section import HpoSection
from parallel_hpo.devices.drivers import open_kfd
from parallel_hpo.devices.library import Device, DeviceLibrary, DeviceProcess, MaskVariable, NoDriver, Usage
from parallel_hpo.devices.placing import Machine, SlotAssignment, assign_slots
from tests.devices.fakes import STRANGER

UUID = "GPU-00000000000000ff"


def node(root: Path, number: int, gpu_id: int, *, unique_id: int = 0, mb: int = 1024) -> None:
    folder = root / "topology" / "nodes" / str(number)
    bank = folder / "mem_banks" / "0"
    bank.mkdir(parents=True)
    (folder / "gpu_id").write_text(f"{gpu_id}\n")
    (folder / "name").write_text("fake\n")
    (folder / "properties").write_text(f"cpu_cores_count 8\nunique_id {unique_id}\n")
    (bank / "properties").write_text(f"heap_type 1\nsize_in_bytes {mb * 2**20}\n")


@pytest.fixture
def driver(tmp_path: Path) -> DeviceLibrary:
    for number, gpu_id in enumerate((0, 0, 111, 222)):
        node(tmp_path, number, gpu_id, unique_id=255 if gpu_id == 111 else 0)
    node(tmp_path, 10, 333)
    hidden = tmp_path / "topology" / "nodes" / "11"
    hidden.mkdir()  # as in a container that may not use it: nothing of it can be read
    for pid, mb in ((STRANGER, 100), (7, 0)):
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "vram_222").write_text(f"{mb * 2**20}\n")
    library = open_kfd(tmp_path)
    assert not isinstance(library, NoDriver)
    return library


def placed(driver: DeviceLibrary, environment: dict[str, str]) -> SlotAssignment:
    section = HpoSection.model_validate({"sweep_id": "x"})
    return assign_slots(section, Machine(environment, driver, lambda: 6, lambda pid: pid == STRANGER))


def test_devices_are_numbered_in_the_order_of_their_nodes(driver: DeviceLibrary) -> None:
    assert driver.list_devices() == (
        Device(0, UUID, "fake"),
        Device(1, "KFD-222", "fake"),
        Device(2, "KFD-333", "fake"),
    )


def test_processes_on_a_device_are_known_with_their_memory(driver: DeviceLibrary) -> None:
    assert driver.usage("KFD-222") == Usage(100.0, 1024.0, (DeviceProcess(STRANGER, 100.0),))
    assert driver.usage(UUID) == Usage(0.0, 1024.0, ())
    assert driver.usage("GPU-none") is None


def test_a_machine_without_such_devices_has_no_driver(tmp_path: Path) -> None:
    node(tmp_path, 0, 0)
    assert open_kfd(tmp_path) == open_kfd(tmp_path / "nothing") == NoDriver("no AMD driver is installed")


def test_each_worker_gets_a_free_device_without_a_mask(driver: DeviceLibrary) -> None:
    placement = placed(driver, {})
    assert [grant.name for grant in placement.grants] == ["0", "2"]
    assert placement.variable is MaskVariable.ROCR
    assert placement.variables(placement.grants[1])["ROCR_VISIBLE_DEVICES"] == "2"


def test_a_mask_is_passed_on_unchanged(driver: DeviceLibrary) -> None:
    grants = placed(driver, {"ROCR_VISIBLE_DEVICES": "GPU-00000000000000FF,1"}).grants
    assert [grant.name for grant in grants] == ["GPU-00000000000000FF", "1"]
    cuda = placed(driver, {"CUDA_VISIBLE_DEVICES": "1,2"})
    assert [grant.name for grant in cuda.grants] == ["1", "2"]
    assert cuda.variable is MaskVariable.CUDA


def test_a_mask_of_hip_alone_is_left_to_hip(driver: DeviceLibrary) -> None:
    assert placed(driver, {"HIP_VISIBLE_DEVICES": "1"}).grants == ()
