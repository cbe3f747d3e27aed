"""Waits for the memory of dead workers' devices (`DeviceWatch`), and measures attempts' energy (`Meter`).
The loop polls both.

The energy of CPUs comes from RAPL's counters in Linux's sysfs (Intel's, and AMD's since Zen). Since 2020,
mostly only root can read them, and virtual machines have none: then no CPU energy is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
from parallel_hpo.devices.sharing import Counter, DeviceMemorySeen, EnergyAccount, Reading, begin, end, update
from parallel_hpo.processes.reaper import start_of


@dataclass(frozen=True, slots=True)
class _Wait:
    """What a slot waits for, and since when."""

    device: str
    since: float


class DeviceWatch:
    """The devices of one sweep, by name; times are monotonic seconds."""

    def __init__(self, grants: Mapping[str, WorkerDevices], library: DeviceLibrary | NoDriver) -> None:
        self._grants = dict(grants)
        self._library = library
        self._waits: dict[Slot, _Wait] = {}
        self._foreign = {process.pid for device in self._grants for process in self._processes(device)}
        self.look_at: float | None = None
        """When to call `look` next; None: no slot waits."""

    def begin(self, slot: Slot, device: str, now: float) -> None:
        """Begin to wait for the devices of a slot whose worker died."""
        self._waits[slot] = _Wait(device, now)
        self.look_at = now

    def look(self, now: float) -> list[DeviceClear]:
        """Return the slots whose devices are free, or whose wait has timed out."""
        if self.look_at is None or now < self.look_at:
            return []
        found = [self._look(slot, wait, now) for slot, wait in self._waits.items()]
        done = [clear for clear in found if clear is not None]
        for clear in done:
            del self._waits[clear.slot]
        self.look_at = now + LOOK_EVERY_S if self._waits else None
        return done

    def held(self, device: str, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
        """Return workers' memory on devices; `owner` returns the slot of a process."""
        return [
            seen
            for usage in _usages_of(self._grants[device], self._library)
            for seen in _shares_of(usage, owner)
        ]

    def _look(self, slot: Slot, wait: _Wait, now: float) -> DeviceClear | None:
        processes = self._processes(wait.device)
        held = still_held(
            processes,
            foreign=frozenset(self._foreign),
            is_alive=lambda pid: start_of(pid) is not None,
        )
        if not held:
            return DeviceClear(slot)
        if now - wait.since < HANDOVER_LIMIT_S:
            return None
        self._foreign.update(process.pid for process in held)
        return DeviceClear(slot, held_by=holders_in_words(held))

    def _processes(self, device: str) -> list[DeviceProcess]:
        return processes_on(self._grants[device], self._library)


def processes_on(grant: WorkerDevices, library: DeviceLibrary | NoDriver) -> list[DeviceProcess]:
    """Return the processes on some devices, as far as the driver tells."""
    return [process for usage in _usages_of(grant, library) for process in usage.processes]


def _usages_of(grant: WorkerDevices, library: DeviceLibrary | NoDriver) -> list[Usage]:
    if isinstance(library, NoDriver):
        return []
    usages = [library.usage(each.uuid) for each in grant.devices if each.uuid]
    return [usage for usage in usages if usage]


def _shares_of(usage: Usage, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
    """Return slots' memory on a device; free memory and theirs is the room for workers."""
    held: dict[Slot, float] = {}
    for process in usage.processes:
        slot = owner(process.pid) if process.used_mb is not None else None
        if slot is not None:
            held[slot] = held.get(slot, 0.0) + (process.used_mb or 0.0)
    room_mb = usage.total_mb - usage.used_mb + sum(held.values())
    return [DeviceMemorySeen(slot, used_mb, room_mb) for slot, used_mb in held.items()]


READ_EVERY_S: Final = 60.0
"""Interval of readings, in seconds: the smallest CPU counters wrap after 65 kJ, which is four minutes at 270
W."""

ROOT: Final = Path("/sys/class/powercap")
UJ_PER_J: Final = 1e6


class Rapl:
    """The CPU packages with readable counters, below `root`.

    A package includes its parts (core, uncore), and `psys` includes all packages. Memory (dram) is separate,
    and not counted, as few machines have its counter.
    """

    def __init__(self, root: Path = ROOT) -> None:
        zones = (
            zone for zone in sorted(root.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")
        )
        self._zones = {
            Counter(zone.name, of_device=False, range_j=_joules(zone / "max_energy_range_uj")): zone
            for zone in zones
        }

    @property
    def counters(self) -> tuple[Counter, ...]:
        """Return the counter of each package."""
        return tuple(counter for counter in self._zones if self.energy_j(counter) is not None)

    def energy_j(self, counter: Counter) -> float | None:
        """Return a package's counter in joules, None if it can't be read."""
        return _joules(self._zones[counter] / "energy_uj")


def _joules(file: Path) -> float | None:
    text = _text(file)
    return int(text) / UJ_PER_J if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


class Meter:
    """Measures the attempts of one sweep on this machine, by slot; times are monotonic seconds."""

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
        """When to call `read` next; None: no attempt is active."""

    def begin(self, slot: Slot, device: str, now: float) -> None:
        """Begin to count for an attempt on the slot's devices."""
        counters = (*self._devices.get(device, ()), *self._packages)
        self._account = begin(self._account, slot, self._read(counters, now))
        self.read_at = now + READ_EVERY_S if self.read_at is None else self.read_at

    def end(self, slot: Slot, now: float) -> Consumption:
        """End the slot's attempt, and return its consumption."""
        readings = self._read(self._account.counters.get(slot, ()), now)
        self._account, used = end(self._account, slot, readings)
        self.read_at = self.read_at if self._account.in_use else None
        return used

    def read(self, now: float) -> None:
        """Read all counters if it is time, before one can wrap unseen."""
        if self.read_at is not None and self.read_at <= now:
            self._account = update(self._account, self._read(self._account.in_use, now))
            self.read_at = now + READ_EVERY_S

    def _read(self, counters: Iterable[Counter], now: float) -> dict[Counter, Reading]:
        return {counter: Reading(now, self._joules(counter)) for counter in counters}

    def _joules(self, counter: Counter) -> float | None:
        if not counter.of_device:
            return self._rapl.energy_j(counter)
        uuid = self._uuids[counter]
        return self._library.energy_j(uuid) if self._library and uuid else None
