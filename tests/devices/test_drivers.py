"""Drivers: NVIDIA's by its library, real and fake; AMD's by its files."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.config.section import HpoSection
from parallel_hpo.devices.drivers import Nvml, cores_of, open_kfd
from parallel_hpo.devices.library import DeviceLibrary, DeviceProcess, MaskVariable, NoDriver, Usage, opened
from parallel_hpo.devices.placing import Machine, assign_slots
from tests.devices.fakes import COMPILER, STRANGER, WHY_NO_COMPILER, FakeLibrary, build_driver

ROOT: Final = Path(__file__).parents[2]


def test_the_fake_driver_has_the_real_interface() -> None:
    def interface(kind: type) -> dict[str, str]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: str(inspect.signature(method)) for name, method in methods if name[0] != "_"}

    assert interface(Nvml) == interface(FakeLibrary)


def test_an_open_library_is_closed() -> None:
    fake = FakeLibrary()
    with opened(lambda: fake):
        assert not fake.closed
    assert fake.closed


@pytest.mark.parametrize(
    ("words", "cores"), [([0], set()), ([0b1011], {0, 1, 3}), ([1 << 63, 1], {63, 64}), ([0, 2], {65})]
)
def test_an_affinity_mask_is_read_64_cores_to_a_word(words: list[int], cores: set[int]) -> None:
    assert cores_of(words) == cores


COMPARE: Final = """
from parallel_hpo.devices.drivers import open_nvml
from tests.devices.fakes import INSTANCES, UUIDS, FakeLibrary

real, fake = open_nvml(), FakeLibrary(errors={uuid: 2 * (uuid == UUIDS[3]) for uuid in UUIDS[1:]})
assert real.driver_version() == fake.driver_version()
assert real.list_devices() == fake.list_devices(), real.list_devices()
for uuid in (*UUIDS, *INSTANCES):
    assert real.usage(uuid) == fake.usage(uuid), (uuid, real.usage(uuid))
    assert (real.energy_j(uuid) is None) == (uuid == UUIDS[0] or uuid in INSTANCES)
    assert real.uncorrected_errors(uuid) == fake.uncorrected_errors(uuid) or uuid in INSTANCES
assert real.usage("GPU-nonsense") is None
assert real.uncorrected_errors("GPU-nonsense") is real.energy_j("GPU-nonsense") is None
real.close()
"""


@pytest.mark.skipif(sys.platform != "linux" or COMPILER is None, reason=WHY_NO_COMPILER)
def test_the_library_reads_a_compiled_fake_driver(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **build_driver(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


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


def test_amd_devices_are_numbered_in_the_order_of_their_nodes_and_have_a_usage(
    driver: DeviceLibrary,
) -> None:
    assert [(each.index, each.uuid, each.name) for each in driver.list_devices()] == [
        (0, UUID, "fake"),
        (1, "KFD-222", "fake"),
        (2, "KFD-333", "fake"),
    ]
    assert driver.usage("KFD-222") == Usage(100.0, 1024.0, (DeviceProcess(STRANGER, 100.0),))
    assert driver.usage(UUID) == Usage(0.0, 1024.0, ())
    assert driver.usage("GPU-none") is None


def test_a_machine_without_amds_devices_has_no_driver(tmp_path: Path) -> None:
    node(tmp_path, 0, 0)
    assert open_kfd(tmp_path) == open_kfd(tmp_path / "nothing") == NoDriver("no AMD driver is installed")


@pytest.mark.parametrize(
    ("mask", "names", "variable"),
    [
        ({}, ["0", "2"], MaskVariable.ROCR),
        ({"ROCR_VISIBLE_DEVICES": f"{UUID.upper()},1"}, [UUID.upper(), "1"], MaskVariable.ROCR),
        ({"CUDA_VISIBLE_DEVICES": "1,2"}, ["1", "2"], MaskVariable.CUDA),
        ({"HIP_VISIBLE_DEVICES": "1"}, [], None),  # left to HIP
    ],
)
def test_each_worker_gets_a_free_amd_device_or_one_of_the_mask(
    driver: DeviceLibrary, mask: dict[str, str], names: list[str], variable: MaskVariable | None
) -> None:
    section = HpoSection.model_validate({"sweep_id": "x"})
    placement = assign_slots(section, Machine(mask, driver, lambda: 6, lambda pid: pid == STRANGER))
    assert [grant.name for grant in placement.grants] == names
    if variable is not None:
        assert placement.variables(placement.grants[1])[variable] == names[1]
