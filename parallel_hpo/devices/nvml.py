"""NVIDIA's devices, through NVML: what `nvidia-smi` knows, without a CUDA context."""

from __future__ import annotations

from typing import Any, Final

import pynvml

from parallel_hpo.devices.library import Device, DeviceLibrary, DeviceProcess, MaskVariable, NoDriver, Usage

MB: Final = 2**20
MJ_PER_J: Final = 1000
"""NVML counts energy in millijoules."""
_WORD_BITS: Final = 64
_CPU_WORDS: Final = 64
"""Room for 4096 logical cores; NVML fills what the machine has."""


class Nvml:
    """The driver's own answers."""

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
            return None  # it fell off the bus, or its driver keeps this from us
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
            return None  # older than Volta, or an instance of MIG: the counter is the whole device's

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
    """The UUIDs of its MIG instances; None where MIG is off or unknown to it."""
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
        return ""  # numbers have gaps where no instance was made


def _cpus(handle: Any) -> frozenset[int]:
    try:
        words = pynvml.nvmlDeviceGetCpuAffinity(handle, _CPU_WORDS)
    except pynvml.NVMLError:
        return frozenset()
    return cores_of([int(word) for word in words])


def cores_of(words: list[int]) -> frozenset[int]:
    """Return the numbers of the set bits, 64 to a word, the lowest first."""
    return frozenset(
        number * _WORD_BITS + bit
        for number, word in enumerate(words)
        for bit in range(_WORD_BITS)
        if word >> bit & 1
    )


def _in_mb(used_bytes: int | None) -> float | None:
    return None if used_bytes is None else used_bytes / MB
