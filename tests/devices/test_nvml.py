"""The driver's real library without a device, and the fake's interface."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.devices.drivers import Nvml, cores_of, open_nvml
from parallel_hpo.devices.library import NoDriver, opened
from tests.devices.driver import COMPILER, WHY_NO_COMPILER, build_driver
from tests.devices.fakes import FakeLibrary, as_library

ROOT: Final = Path(__file__).parents[2]


def test_the_fake_driver_has_the_real_interface() -> None:
    def interface(kind: type) -> dict[str, str]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: str(inspect.signature(method)) for name, method in methods if name[0] != "_"}

    assert interface(Nvml) == interface(FakeLibrary)


def test_the_library_is_opened_or_the_reason_is_known() -> None:
    with opened(open_nvml) as library:
        if isinstance(library, NoDriver):
            assert library.reason
            return
        assert library.driver_version()
        for device in library.list_devices():
            assert device.uuid.startswith("GPU-")
            usage = library.usage(device.uuid)
            assert usage is None or 0 <= usage.used_mb <= usage.total_mb
        assert library.usage("GPU-nonsense") is None
        assert library.uncorrected_errors("GPU-nonsense") is None


def test_an_open_library_is_closed() -> None:
    fake = FakeLibrary()
    with opened(lambda: as_library(fake)):
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
def test_the_library_reads_the_drivers_functions(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **build_driver(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
