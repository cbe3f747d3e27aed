"""A sweep's devices: their assignment to slots at its start, and each worker's variables, cores and port.

A worker with several devices gets a port of its own for its rendezvous, so that no two `torchrun` meet.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.cores import own_cores
from parallel_hpo.devices.drivers import open_kfd, open_nvml
from parallel_hpo.devices.library import DeviceLibrary, DeviceProcess, MaskVariable, NoDriver
from parallel_hpo.devices.mask import (
    FURTHER_MASKS,
    Mask,
    VisibleDevice,
    WorkerDevices,
    choose,
    count_slots,
    find_visible,
    group,
    listed_under,
    read_mask,
)
from parallel_hpo.devices.sharing import Occupancy
from parallel_hpo.devices.users import DeviceUsers, who_is_there
from parallel_hpo.devices.watch import DeviceWatch, Meter, Rapl, processes_on
from parallel_hpo.processes.environment import ON_CPU

MPS_SERVER: Final = "nvidia-cuda-mps"
"""Name of MPS's server process; its clients are listed themselves."""
HIDDEN: Final = dict.fromkeys(map(str, MaskVariable), "")
"""Variables that hide all devices of any make from a worker."""


@dataclass(frozen=True, slots=True)
class SlotAssignment:
    """The number of slots, their devices in turn, and the mask variable."""

    workers: int
    grants: tuple[WorkerDevices, ...] = ()
    """Empty: all compute on the CPU."""
    variable: MaskVariable = MaskVariable.CUDA
    hide_all: bool = False
    """Hide all devices from the workers."""
    most_workers: int | None = None
    """Maximum of workers that share devices by memory; None: the number is fixed."""
    notes: tuple[Message, ...] = ()

    @property
    def superseded(self) -> tuple[str, ...]:
        """Masks of the parent that would apply on top of a worker's own."""
        return FURTHER_MASKS[self.variable] if self.grants else ()

    def variables(self, grant: WorkerDevices) -> dict[str, str]:
        """Return the variables that select a worker's devices."""
        if grant.devices:
            return {self.variable: grant.name, "PARALLEL_HPO_DEVICE": grant.name}
        return (HIDDEN if self.hide_all else {}) | ON_CPU


@dataclass(frozen=True, slots=True)
class Machine:
    """What an assignment depends on besides the configuration."""

    environment: Mapping[str, str] = field(repr=False)
    library: DeviceLibrary | NoDriver
    count_cores: Callable[[], int]
    """Returns the number of workers without devices: the usable physical cores."""
    is_foreign: Callable[[int], bool]
    """Returns whether a process on a device belongs to another user."""


def assign_slots(section: HpoSection, machine: Machine) -> SlotAssignment:
    """Return a sweep's slots and their devices.

    Raises:
        ConfigError: a device is not visible, or there are more workers than the devices take; with
            `devices: "auto"`, other processes compute on every device.
    """
    if section.devices == "cpu":
        return SlotAssignment(_count_on_cores(section, machine), hide_all=True)
    library = None if isinstance(machine.library, NoDriver) else machine.library
    found = None if library is None else library.list_devices()
    driver = library.variable if library and found else None
    mask = read_mask(machine.environment, driver=driver)
    listed = listed_under(mask, found, driver=driver)
    visible = find_visible(mask, listed)
    notes = _notes(mask, visible, machine.library)
    if section.devices == "auto" and section.polite:
        usable = visible  # busy ones are used once they are free
    elif section.devices == "auto":
        usable, busy = _split_busy(visible, machine)
        notes += busy
    else:
        _expect_a_driver(section.devices, mask, machine.library)
        usable = choose(visible, section.devices, mask, listed)
    if not usable:
        return SlotAssignment(_count_on_cores(section, machine), notes=notes)
    grants = group(usable, section.devices_per_worker)
    asked = None if section.workers == "auto" else section.workers
    if section.workers_per_device == "auto":
        # A worker needs a core to feed its device.
        most = asked or max(len(grants), machine.count_cores())
        return SlotAssignment(min(most, len(grants)), grants, mask.variable, most_workers=most, notes=notes)
    workers = count_slots(grants, workers=asked, workers_per_device=section.workers_per_device)
    return SlotAssignment(workers, grants, mask.variable, notes=notes)


def is_foreign(pid: int) -> bool:
    """Return whether a process is neither ours (an ancestor, a descendant) nor the server of MPS."""
    own = psutil.Process()
    try:
        process = psutil.Process(pid)
        if process in own.parents() or own in [process, *process.parents()]:
            return False
        return not process.name().startswith(MPS_SERVER)
    except psutil.Error:
        return True


def _expect_a_driver(wanted: Sequence[str], mask: Mask, library: DeviceLibrary | NoDriver) -> None:
    """Refuse named devices without driver and mask, as the runs would compute on the CPU."""
    if isinstance(library, NoDriver) and not library.broken and mask.entries is None:
        raise ConfigError(
            f"hpo.devices names {', '.join(map(repr, wanted))}, but there is no such device here:"
            f" {library.reason}, and {mask.variable} is not set; leave hpo.devices out,"
            " or set that variable if you know better"
        )


def _count_on_cores(section: HpoSection, machine: Machine) -> int:
    if section.devices_per_worker > 1:
        raise ConfigError(
            f"hpo.devices_per_worker is {section.devices_per_worker}, but there is no device to use; lower it"
        )
    return machine.count_cores() if section.workers == "auto" else section.workers


def _notes(
    mask: Mask, visible: Sequence[VisibleDevice], library: DeviceLibrary | NoDriver
) -> tuple[Message, ...]:
    notes = []
    if isinstance(library, NoDriver) and library.broken:
        notes.append(Message(f"the NVIDIA driver can't be asked for devices: {library.reason}", warning=True))
    if mask.entries and len(visible) < len(mask.entries):
        culprit, hidden = mask.entries[len(visible)], ", ".join(mask.entries[len(visible) :])
        words = f"{mask} hides {hidden}: {culprit} is no device here or named twice, and hides all after it"
        notes.append(Message(words, warning=True))
    return tuple(notes)


def _split_busy(
    visible: Sequence[VisibleDevice], machine: Machine
) -> tuple[tuple[VisibleDevice, ...], tuple[Message, ...]]:
    """Return the devices without other users, and a note on each of the others."""
    usable, notes = [], []
    for each in visible:
        foreign = [p for p in _processes(each, machine.library) if machine.is_foreign(p.pid)]
        if foreign:
            pids = ", ".join(str(process.pid) for process in foreign)
            text = f"device {each.token} is left out: process {pids} computes on it"
            notes.append(Message(f"{text} (name it in hpo.devices to use it)", warning=True))
        else:
            usable.append(each)
    if visible and not usable:
        raise ConfigError(
            "other processes compute on every device:\n"
            + "\n".join(note.text for note in notes)
            + '\nname the devices in hpo.devices to use them anyway, or set it to "cpu"'
        )
    return tuple(usable), tuple(notes)


def _processes(device: VisibleDevice, library: DeviceLibrary | NoDriver) -> tuple[DeviceProcess, ...]:
    if isinstance(library, NoDriver) or not device.uuid:
        return ()
    usage = library.usage(device.uuid)
    return usage.processes if usage else ()


class SweepDevices:
    """The devices of one sweep, by the names in slots; the empty name is the CPU."""

    def __init__(
        self,
        placement: SlotAssignment,
        library: DeviceLibrary | NoDriver,
        *,
        cores: Callable[[], frozenset[int]] = own_cores,
    ) -> None:
        self._placement = placement
        self._grants = {grant.name: grant for grant in placement.grants}
        self._cores = cores()
        self._ports = Ports()
        self.workers = placement.workers
        """Number of slots at the start."""
        most = placement.most_workers
        self.occupancy = None if most is None else Occupancy(most)
        """Set if workers share devices by memory."""
        self.superseded = placement.superseded
        """Masks of the parent that would apply on top of a worker's own."""
        self.watch = DeviceWatch(self._grants, library)
        self.meter = Meter(self._grants, library, Rapl())
        self._library = library

    @property
    def names(self) -> tuple[str, ...]:
        """Return the devices that slots get in turn, as in a worker's mask; empty: none."""
        return tuple(self._grants)

    def other_users(self) -> DeviceUsers:
        """Return the detection of the devices' other users."""
        return DeviceUsers(
            self._grants,
            lambda name: processes_on(self._grants.get(name, WorkerDevices()), self._library),
            is_foreign=is_foreign,
            who_is_there=who_is_there,
        )

    def variables(self, slot: Slot, name: str) -> dict[str, str]:
        """Return the device variables of a slot's next worker."""
        grant = self._grants.get(name, WorkerDevices())
        port = {"MASTER_PORT": str(self._ports.renew(slot))} if len(grant.devices) > 1 else {}
        return self._placement.variables(grant) | port

    def cpus(self, name: str) -> tuple[int, ...] | None:
        """Return the cores for a worker on these devices; None: all of ours."""
        near = self._grants.get(name, WorkerDevices()).cpus & self._cores
        return tuple(sorted(near)) if near and near != self._cores else None


class Ports:
    """Free TCP ports, different for each slot."""

    def __init__(self) -> None:
        self._of: dict[Slot, int] = {}

    def renew(self, slot: Slot) -> int:
        """Return a new port for the slot's next worker, as the last one's may still be in use."""
        others = {port for other, port in self._of.items() if other != slot} | {self._of.get(slot)}
        while (port := _free_port()) in others:
            pass  # the system draws ports at random
        self._of[slot] = port
        return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def open_driver() -> DeviceLibrary | NoDriver:
    """Return NVIDIA's library, or AMD's if NVIDIA's driver is not installed; or why there is none."""
    nvml = open_nvml()
    if not isinstance(nvml, NoDriver) or nvml.broken:
        return nvml
    kfd = open_kfd()
    return nvml if isinstance(kfd, NoDriver) else kfd
