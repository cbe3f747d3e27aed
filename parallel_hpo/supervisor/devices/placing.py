"""A sweep's devices at its start: asks the driver, and puts mask, choice and assignment together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.errors import ConfigError
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.devices.assign import Grant, count_slots, group
from parallel_hpo.supervisor.devices.library import DeviceLibrary, DeviceProcess, MaskVariable, NoDriver
from parallel_hpo.supervisor.devices.mask import (
    FURTHER_MASKS,
    Mask,
    VisibleDevice,
    choose,
    find_visible,
    listed_under,
    read_mask,
)
from parallel_hpo.supervisor.processes.environment import ON_CPU

MPS_SERVER: Final = "nvidia-cuda-mps"
"""How the process is called that computes on behalf of MPS's clients, which are listed themselves."""
HIDDEN: Final = dict.fromkeys(map(str, MaskVariable), "")
"""What a worker has that is to see no device, of whatever make."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How many slots there are, what they get in turn, and the variable that tells a worker of it."""

    workers: int
    grants: tuple[Grant, ...] = ()
    """None: all compute on the processor."""
    variable: MaskVariable = MaskVariable.CUDA
    hide_all: bool = False
    """The workers are to see no device."""
    notes: tuple[Message, ...] = ()

    @property
    def superseded(self) -> tuple[str, ...]:
        """Masks of the parent's that would be applied on top of a worker's own."""
        return FURTHER_MASKS[self.variable] if self.grants else ()

    def variables(self, grant: Grant) -> dict[str, str]:
        """Return what tells a worker its devices."""
        if grant.devices:
            return {self.variable: grant.name, "PARALLEL_HPO_DEVICE": grant.name}
        return (HIDDEN if self.hide_all else {}) | ON_CPU


@dataclass(frozen=True, slots=True)
class Machine:
    """What a placement depends on beside the configuration."""

    environment: Mapping[str, str] = field(repr=False)
    library: DeviceLibrary | NoDriver
    count_cores: Callable[[], int]
    """How many workers there are without devices: the physical cores that may be used."""
    is_stranger: Callable[[int], bool]
    """Whether a process that computes on a device is somebody else's."""


def place(section: HpoSection, machine: Machine) -> Placement:
    """Return which slots a sweep has, and what each computes on.

    Raises:
        ConfigError: a device that is not visible, or more workers than the devices take;
            with `devices: "auto"`, somebody else computes on every one.
    """
    if section.devices == "cpu":
        return Placement(_count_on_cores(section, machine), hide_all=True)
    library = None if isinstance(machine.library, NoDriver) else machine.library
    found = None if library is None else library.list_devices()
    driver = library.variable if library and found else None
    mask = read_mask(machine.environment, driver=driver)
    listed = listed_under(mask, found, driver=driver)
    visible = find_visible(mask, listed)
    notes = _notes(mask, visible, machine.library)
    if section.devices == "auto" and section.polite:
        usable = visible  # those that are busy are joined once they are free
    elif section.devices == "auto":
        usable, busy = _split_busy(visible, machine)
        notes += busy
    else:
        _expect_a_driver(section.devices, mask, machine.library)
        usable = choose(visible, section.devices, mask, listed)
    if not usable:
        return Placement(_count_on_cores(section, machine), notes=notes)
    grants = group(usable, section.devices_per_worker)
    workers = count_slots(
        grants,
        workers=None if section.workers == "auto" else section.workers,
        workers_per_device=section.workers_per_device,
    )
    return Placement(workers, grants, mask.variable, notes=notes)


def is_stranger(pid: int) -> bool:
    """Return whether a process is neither ours (an ancestor's, a descendant's) nor the server of MPS."""
    own = psutil.Process()
    try:
        process = psutil.Process(pid)
        if process in own.parents() or own in [process, *process.parents()]:
            return False
        return not process.name().startswith(MPS_SERVER)
    except psutil.Error:
        return True


def _expect_a_driver(wanted: Sequence[str], mask: Mask, library: DeviceLibrary | NoDriver) -> None:
    """Refuse named devices where nothing says that there are any: the runs would compute on the processor."""
    if isinstance(library, NoDriver) and not library.broken and mask.entries is None:
        raise ConfigError(
            f"hpo.devices names {', '.join(map(repr, wanted))}, but there is no such device here:"
            f" {library.reason}, and {mask.variable} is not set; leave hpo.devices out,"
            " or set that variable where you know better"
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
    """Return the devices on which nobody else computes, and a word on each of the others."""
    usable, notes = [], []
    for each in visible:
        strangers = [p for p in _processes(each, machine.library) if machine.is_stranger(p.pid)]
        if strangers:
            pids = ", ".join(str(process.pid) for process in strangers)
            text = f"device {each.token} is left out: process {pids} computes on it"
            notes.append(Message(f"{text} (name it in hpo.devices to use it)", warning=True))
        else:
            usable.append(each)
    if visible and not usable:
        raise ConfigError(
            "somebody else computes on every device:\n"
            + "\n".join(note.text for note in notes)
            + '\nname the devices in hpo.devices to use them all the same, or set it to "cpu"'
        )
    return tuple(usable), tuple(notes)


def _processes(device: VisibleDevice, library: DeviceLibrary | NoDriver) -> tuple[DeviceProcess, ...]:
    if isinstance(library, NoDriver) or not device.uuid:
        return ()
    usage = library.usage(device.uuid)
    return usage.processes if usage else ()
