"""What is asked of a device driver, and what its answers look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class MaskVariable(StrEnum):
    """The variable that says which devices a process sees."""

    CUDA = "CUDA_VISIBLE_DEVICES"
    ROCR = "ROCR_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Device:
    """One physical device, as `nvidia-smi` numbers it (in the order of the PCI bus)."""

    index: int
    uuid: str
    name: str
    cpus: frozenset[int] = frozenset()
    """The logical cores near it; empty where that is not known."""
    partitioned: bool = False
    """MIG is on: only its instances can compute."""
    instances: tuple[str, ...] = ()
    """The UUIDs of its MIG instances."""


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process that computes on a device; `used_mb` is None where the driver can't say."""

    pid: int
    used_mb: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a device, or a MIG instance, is used for now; memory is in MB of 2**20 bytes."""

    used_mb: float
    total_mb: float
    processes: tuple[DeviceProcess, ...]


@dataclass(frozen=True, slots=True)
class NoDriver:
    """There is no driver to ask: `reason` in its own words; `broken`: it is installed and can't answer."""

    reason: str
    broken: bool = False


class DeviceLibrary(Protocol):
    """A driver's management library; none of its methods opens a context on a device."""

    @property
    def variable(self) -> MaskVariable:
        """The mask that its devices obey."""

    def driver_version(self) -> str: ...

    def list_devices(self) -> tuple[Device, ...]: ...

    def usage(self, uuid: str) -> Usage | None:
        """Return the use of a device or MIG instance; None where the driver doesn't tell."""

    def uncorrected_errors(self, uuid: str) -> int | None:
        """Return a device's uncorrected memory errors since the driver was loaded; None: it counts none."""

    def energy_j(self, uuid: str) -> float | None:
        """Return the joules that a device has drawn, by its own counter; None: it has none."""

    def close(self) -> None: ...


OpenLibrary = Callable[[], DeviceLibrary | NoDriver]


def no_library() -> NoDriver:
    """Stand for a library that is not wanted: asking a driver wakes its devices, which may take seconds."""
    return NoDriver("not asked")


@contextmanager
def opened(open_library: OpenLibrary) -> Iterator[DeviceLibrary | NoDriver]:
    """The library for the length of a block."""
    library = open_library()
    try:
        yield library
    finally:
        if not isinstance(library, NoDriver):
            library.close()
