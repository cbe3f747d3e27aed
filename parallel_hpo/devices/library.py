"""The interface of a device driver's library, and its types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class MaskVariable(StrEnum):
    """The environment variable that selects a process's devices."""

    CUDA = "CUDA_VISIBLE_DEVICES"
    ROCR = "ROCR_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Device:
    """One physical device, as `nvidia-smi` numbers it (in the order of the PCI bus)."""

    index: int
    uuid: str
    name: str
    cpus: frozenset[int] = frozenset()
    """Logical cores near it; empty if unknown."""
    partitioned: bool = False
    """MIG is on: only its instances can compute."""
    instances: tuple[str, ...] = ()
    """The UUIDs of its MIG instances."""


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that computes on a device; `used_mb` is None if the driver does not tell."""

    pid: int
    used_mb: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory and processes of a device or MIG instance; in MB of 2**20 bytes."""

    used_mb: float
    total_mb: float
    processes: tuple[DeviceProcess, ...]


@dataclass(frozen=True, slots=True)
class NoDriver:
    """There is no driver; `reason` says why, `broken`: it is installed but fails."""

    reason: str
    broken: bool = False


class DeviceLibrary(Protocol):
    """A driver's management library; none of its methods opens a context on a device."""

    @property
    def variable(self) -> MaskVariable:
        """Return the mask variable of its devices."""

    def driver_version(self) -> str: ...

    def list_devices(self) -> tuple[Device, ...]: ...

    def usage(self, uuid: str) -> Usage | None:
        """Return the use of a device or MIG instance; None if the driver does not tell."""

    def uncorrected_errors(self, uuid: str) -> int | None:
        """Return a device's uncorrected memory errors since the driver was loaded; None without a counter."""

    def energy_j(self, uuid: str) -> float | None:
        """Return a device's energy counter in joules; None without one."""

    def close(self) -> None: ...


OpenLibrary = Callable[[], DeviceLibrary | NoDriver]


def no_library() -> NoDriver:
    """Return a placeholder if no device is wanted, as a driver wakes its devices, which may take seconds."""
    return NoDriver("not asked")


@contextmanager
def opened(open_library: OpenLibrary) -> Iterator[DeviceLibrary | NoDriver]:
    """Open the library for a block."""
    library = open_library()
    try:
        yield library
    finally:
        if not isinstance(library, NoDriver):
            library.close()
