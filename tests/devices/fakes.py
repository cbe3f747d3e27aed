"""A fake driver with eight devices: MIG partitions device 2, another user uses device 6.

`build_driver` compiles the same as libraries, from fake_nvml.c and fake_cuda.c.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from parallel_hpo.devices.library import Device, DeviceProcess, MaskVariable, Usage

STRANGER: Final = 4194305
"""A process id above Linux's maximum."""
UUIDS: Final = tuple(
    f"GPU-{number}{letter}000000-0000-0000-0000-000000000000" for number, letter in enumerate("abcdefab")
)
INSTANCES: Final = ("MIG-11aa-0000", "MIG-22bb-0000")

PLAIN: Final = tuple(
    Device(number, uuid, "Fake 80GB", frozenset(range(4) if number < 4 else range(4, 8)))
    for number, uuid in enumerate(UUIDS)
)
DEVICES: Final = (*PLAIN[:2], replace(PLAIN[2], partitioned=True, instances=INSTANCES), *PLAIN[3:])
IDLE: Final = Usage(used_mb=4.0, total_mb=81920.0, processes=())


def used_by(*pids: int, mb: float | None = 1000.0) -> Usage:
    """Return the usage of a device on which these processes compute."""
    return Usage(sum(mb or 0.0 for _ in pids), 81920.0, tuple(DeviceProcess(pid, mb) for pid in pids))


@dataclass
class FakeLibrary:
    """A fake driver; tests may change `usages` and `errors`."""

    devices: tuple[Device, ...] = DEVICES
    usages: dict[str, Usage | None] = field(default_factory=lambda: {UUIDS[6]: used_by(STRANGER)})
    errors: Mapping[str, int] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)
    closed: bool = False
    variable: MaskVariable = MaskVariable.CUDA

    def driver_version(self) -> str:
        return "570.1"

    def list_devices(self) -> tuple[Device, ...]:
        return self.devices

    def usage(self, uuid: str) -> Usage | None:
        return self.usages.get(uuid, IDLE)

    def uncorrected_errors(self, uuid: str) -> int | None:
        return self.errors.get(uuid)

    def energy_j(self, uuid: str) -> float | None:
        return self.joules.get(uuid)

    def close(self) -> None:
        self.closed = True


COMPILER: Final = shutil.which("cc")
WHY_NO_COMPILER: Final = "no C compiler is installed, or this is not Linux (Debian: apt-get install gcc)"


def build_driver(folder: Path) -> dict[str, str]:
    """Build the driver in `folder`; return the variables by which a process finds it."""
    assert COMPILER is not None
    for source, library in (("fake_nvml.c", "libnvidia-ml.so.1"), ("fake_cuda.c", "libcuda.so.1")):
        words = ("-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library))
        subprocess.run([COMPILER, *words, str(Path(__file__).with_name(source))], check=True, timeout=60)
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(folder / "process")}
