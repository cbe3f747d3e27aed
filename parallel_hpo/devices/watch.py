"""Looks after devices whose worker died, until they can be handed on; the loop asks it.

Measures what attempts use of devices and energy: reads the counters for `metering`; the loop asks it.

What processors draw is in RAPL's counters, as Linux has them in sysfs (Intel's, and AMD's since Zen). Mostly
they are for root to read since 2020, and not there in virtual machines: then there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.core.messages import Consumption
from parallel_hpo.core.types import Slot
from parallel_hpo.devices.health import (
    HANDOVER_LIMIT_S,
    LOOK_EVERY_S,
    DeviceClear,
    holders_in_words,
    still_held,
)
from parallel_hpo.devices.library import DeviceLibrary, DeviceProcess, NoDriver, Usage
from parallel_hpo.devices.mask import WorkerDevices
from parallel_hpo.devices.sharing import Counter, DeviceMemorySeen, EnergyAccount, Reading, begin, end, settle


@dataclass(frozen=True, slots=True)
class _Wait:
    """For what a slot waits, and since when."""

    device: str
    since: float


class DeviceWatch:
    """The devices of one sweep, by name; times are monotonic seconds."""

    def __init__(self, grants: Mapping[str, WorkerDevices], library: DeviceLibrary | NoDriver) -> None:
        self._grants = dict(grants)
        self._library = library
        self._waits: dict[Slot, _Wait] = {}
        self._strangers = {process.pid for device in self._grants for process in self._processes(device)}
        self.look_at: float | None = None
        """When to call `look` next; None: nothing is waited for."""

    def begin(self, slot: Slot, device: str, now: float) -> None:
        """Wait for the devices of a slot whose worker died."""
        self._waits[slot] = _Wait(device, now)
        self.look_at = now

    def look(self, now: float) -> list[DeviceClear]:
        """Return the slots whose devices are free now, or have been waited for long enough."""
        if self.look_at is None or now < self.look_at:
            return []
        found = [self._look(slot, wait, now) for slot, wait in self._waits.items()]
        done = [clear for clear in found if clear is not None]
        for clear in done:
            del self._waits[clear.slot]
        self.look_at = now + LOOK_EVERY_S if self._waits else None
        return done

    def held(self, device: str, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
        """Return what workers hold of a slot's devices; `owner` says to which slot a process belongs."""
        return [
            seen
            for usage in _usages_of(self._grants[device], self._library)
            for seen in _shares_of(usage, owner)
        ]

    def _look(self, slot: Slot, wait: _Wait, now: float) -> DeviceClear | None:
        processes = self._processes(wait.device)
        held = still_held(processes, strangers=frozenset(self._strangers), is_alive=_is_alive)
        if not held:
            return DeviceClear(slot)
        if now - wait.since < HANDOVER_LIMIT_S:
            return None
        self._strangers.update(process.pid for process in held)
        return DeviceClear(slot, held_by=holders_in_words(held))

    def _processes(self, device: str) -> list[DeviceProcess]:
        return processes_on(self._grants[device], self._library)


def processes_on(grant: WorkerDevices, library: DeviceLibrary | NoDriver) -> list[DeviceProcess]:
    """Return what computes on some devices, as far as their driver says it."""
    return [process for usage in _usages_of(grant, library) for process in usage.processes]


def _usages_of(grant: WorkerDevices, library: DeviceLibrary | NoDriver) -> list[Usage]:
    if isinstance(library, NoDriver):
        return []
    usages = [library.usage(each.uuid) for each in grant.devices if each.uuid]
    return [usage for usage in usages if usage]


def _shares_of(usage: Usage, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
    """Return what slots hold of a device; what is free, or theirs, is the room for workers."""
    held: dict[Slot, float] = {}
    for process in usage.processes:
        slot = owner(process.pid) if process.used_mb is not None else None
        if slot is not None:
            held[slot] = held.get(slot, 0.0) + (process.used_mb or 0.0)
    room_mb = usage.total_mb - usage.used_mb + sum(held.values())
    return [DeviceMemorySeen(slot, used_mb, room_mb) for slot, used_mb in held.items()]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


READ_EVERY_S: Final = 60.0
"""The smallest counters of processors begin again at 0 after 65 kJ: four minutes at 270 W."""

ROOT: Final = Path("/sys/class/powercap")
UJ_PER_J: Final = 1e6


class Rapl:
    """The packages whose counters can be read here, below `root`.

    A package's own parts (core, uncore) are in it, and `psys` has all packages in it; memory (dram) is
    not, and left out, as few machines tell of it.
    """

    def __init__(self, root: Path = ROOT) -> None:
        zones = (
            zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")
        )
        self._zones = {Counter(zone.name, of_device=False, range_j=_range_j(zone)): zone for zone in zones}

    @property
    def counters(self) -> tuple[Counter, ...]:
        """One for each package."""
        return tuple(counter for counter in self._zones if self.energy_j(counter) is not None)

    def energy_j(self, counter: Counter) -> float | None:
        """Return the joules that a package's counter is at; None where it can't be read."""
        return _joules(self._zones[counter] / "energy_uj")


def _range_j(zone: Path) -> float | None:
    return _joules(zone / "max_energy_range_uj")


def _joules(file: Path) -> float | None:
    text = _text(file)
    return int(text) / UJ_PER_J if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


class Meter:
    """The attempts of one sweep on this machine, by their slots; times are monotonic seconds."""

    def __init__(
        self, grants: Mapping[str, WorkerDevices], library: DeviceLibrary | NoDriver, rapl: Rapl
    ) -> None:
        self._library = None if isinstance(library, NoDriver) else library
        self._rapl = rapl
        self._packages = rapl.counters
        self._uuids = {
            Counter(each.uuid or each.token): each.uuid for grant in grants.values() for each in grant.devices
        }
        self._devices = {
            name: tuple(Counter(each.uuid or each.token) for each in grant.devices)
            for name, grant in grants.items()
        }
        self._account = EnergyAccount()
        self.read_at: float | None = None
        """When to call `read` next; None: nothing is on."""

    def begin(self, slot: Slot, device: str, now: float) -> None:
        """Count for an attempt that is about to begin on the slot's devices."""
        counters = (*self._devices.get(device, ()), *self._packages)
        self._account = begin(self._account, slot, self._read(counters, now))
        self.read_at = now + READ_EVERY_S if self.read_at is None else self.read_at

    def end(self, slot: Slot, now: float) -> Consumption:
        """Return what the slot's attempt has used, which is over."""
        readings = self._read(self._account.counters.get(slot, ()), now)
        self._account, used = end(self._account, slot, readings)
        self.read_at = self.read_at if self._account.in_use else None
        return used

    def read(self, now: float) -> None:
        """Read all counters, where it is time to: some would begin again at 0 unseen."""
        if self.read_at is not None and self.read_at <= now:
            self._account = settle(self._account, self._read(self._account.in_use, now))
            self.read_at = now + READ_EVERY_S

    def _read(self, counters: Iterable[Counter], now: float) -> dict[Counter, Reading]:
        return {counter: Reading(now, self._joules(counter)) for counter in counters}

    def _joules(self, counter: Counter) -> float | None:
        if not counter.of_device:
            return self._rapl.energy_j(counter)
        uuid = self._uuids[counter]
        return self._library.energy_j(uuid) if self._library and uuid else None
