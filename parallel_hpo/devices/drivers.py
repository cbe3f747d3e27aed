"""Devices by their drivers, without a context: NVIDIA's by NVML, AMD's by sysfs of the kernel driver (no
ROCm library).

amdkfd in sysfs: `topology/nodes/<n>/` are CPUs and devices; a device has a `gpu_id`. `proc/<pid>/` are
processes that compute, with `vram_<gpu_id>` in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pynvml

from parallel_hpo.devices.library import Device, DeviceLibrary, DeviceProcess, MaskVariable, NoDriver, Usage

MB: Final = 2**20
MJ_PER_J: Final = 1000
"""NVML counts energy in millijoules."""
_WORD_BITS: Final = 64
_CPU_WORDS: Final = 64
"""Words of NVML's core mask, enough for 4096 logical cores."""


class Nvml:
    """NVIDIA's driver."""

    variable = MaskVariable.CUDA

    def driver_version(self) -> str:
        return str(pynvml.nvmlSystemGetDriverVersion())

    def list_devices(self) -> tuple[Device, ...]:
        return tuple(
            _describe(index, pynvml.nvmlDeviceGetHandleByIndex(index))
            for index in range(pynvml.nvmlDeviceGetCount())
        )

    def usage(self, uuid: str) -> Usage | None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            return None  # it fell off the bus, or the driver refuses
        return Usage(
            used_mb=memory.used / MB,
            total_mb=memory.total / MB,
            processes=tuple(DeviceProcess(p.pid, _in_mb(p.usedGpuMemory)) for p in processes),
        )

    def uncorrected_errors(self, uuid: str) -> int | None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            return int(
                pynvml.nvmlDeviceGetTotalEccErrors(
                    handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            )
        except pynvml.NVMLError:
            return None

    def energy_j(self, uuid: str) -> float | None:
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / MJ_PER_J
        except pynvml.NVMLError:
            return None  # older than Volta, or a MIG instance: only the whole device counts

    def close(self) -> None:
        pynvml.nvmlShutdown()


def open_nvml() -> DeviceLibrary | NoDriver:
    """Return the library, to be closed, or why there is none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return NoDriver("no NVIDIA driver is installed")
    except pynvml.NVMLError as error:
        return NoDriver(str(error), broken=True)
    return Nvml()


def _describe(index: int, handle: Any) -> Device:
    instances = _instances(handle)
    return Device(
        index=index,
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        cpus=_cpus(handle),
        partitioned=instances is not None,
        instances=instances or (),
    )


def _instances(handle: Any) -> tuple[str, ...] | None:
    """Return the UUIDs of its MIG instances; None if MIG is off or unknown."""
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
        if current != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError:
        return None
    found = (_instance(handle, number) for number in range(most))
    return tuple(uuid for uuid in found if uuid)


def _instance(handle: Any, number: int) -> str:
    try:
        return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    except pynvml.NVMLError:
        return ""  # there are gaps between instances' numbers


def _cpus(handle: Any) -> frozenset[int]:
    try:
        words = pynvml.nvmlDeviceGetCpuAffinity(handle, _CPU_WORDS)
    except pynvml.NVMLError:
        return frozenset()
    return cores_of([int(word) for word in words])


def cores_of(words: list[int]) -> frozenset[int]:
    """Return the numbers of the set bits in 64-bit words, lowest first."""
    return frozenset(
        number * _WORD_BITS + bit
        for number, word in enumerate(words)
        for bit in range(_WORD_BITS)
        if word >> bit & 1
    )


def _in_mb(used_bytes: int | None) -> float | None:
    return None if used_bytes is None else used_bytes / MB


ROOT: Final = Path("/sys/class/kfd/kfd")
VERSION: Final = Path("/sys/module/amdgpu/version")
VIDEO_MEMORY: Final = ("1", "2")
"""`heap_type` of a device's own memory, visible to the host or not."""


class Kfd:
    """AMD's kernel driver, in sysfs below `root`."""

    variable = MaskVariable.ROCR

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._nodes = {_uuid(node): node for node in _devices(root)}

    def driver_version(self) -> str:
        """Return the driver's version; a driver in the kernel has none."""
        return _read(VERSION) or "(the kernel's)"

    def list_devices(self) -> tuple[Device, ...]:
        """Return the devices in the order of ROCR_VISIBLE_DEVICES."""
        return tuple(
            Device(index, uuid, _read(node / "name") or "AMD")
            for index, (uuid, node) in enumerate(self._nodes.items())
        )

    def usage(self, uuid: str) -> Usage | None:
        node = self._nodes.get(uuid)
        if node is None:
            return None
        banks = [_properties(bank / "properties") for bank in node.glob("mem_banks/*")]
        total = sum(int(bank["size_in_bytes"]) for bank in banks if bank.get("heap_type") in VIDEO_MEMORY)
        name = f"vram_{_read(node / 'gpu_id')}"
        files = self._root.glob(f"proc/[0-9]*/{name}")
        held = {int(file.parent.name): int(_read(file) or 0) for file in files}
        processes = tuple(DeviceProcess(pid, size / MB) for pid, size in held.items() if size)
        return Usage(sum(each.used_mb or 0.0 for each in processes), total / MB, processes)

    def uncorrected_errors(self, uuid: str) -> int | None:
        """Return None: sysfs has no such counter."""
        return None

    def energy_j(self, uuid: str) -> float | None:
        """Return None: sysfs has no such counter."""
        return None

    def close(self) -> None:
        """Do nothing: nothing is open."""


def open_kfd(root: Path = ROOT) -> DeviceLibrary | NoDriver:
    """Return the library, or why there is none."""
    found = Kfd(root)
    return found if found.list_devices() else NoDriver("no AMD driver is installed")


def _devices(root: Path) -> Iterator[Path]:
    """Yield the nodes that are devices and usable by this process (a container may hide some)."""
    nodes = [path for path in root.glob("topology/nodes/*") if path.name.isdigit()]
    for node in sorted(nodes, key=lambda path: int(path.name)):
        if _read(node / "gpu_id") not in ("", "0"):
            yield node


def _uuid(node: Path) -> str:
    """Return a device's UUID in ROCm's form; older devices have none."""
    unique = int(_properties(node / "properties").get("unique_id", "0"))
    return f"GPU-{unique:016x}" if unique else f"KFD-{_read(node / 'gpu_id')}"


def _properties(file: Path) -> Mapping[str, str]:
    pairs = (line.split(maxsplit=1) for line in _read(file).splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}


def _read(file: Path) -> str:
    """Return a file's text, '' if it can't be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
