"""Measures what attempts use of devices and energy: reads the counters for `metering`; the loop asks it.

What processors draw is in RAPL's counters, as Linux has them in sysfs (Intel's, and AMD's since Zen). Mostly
they are for root to read since 2020, and not there in virtual machines: then there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from parallel_hpo.consumption import Consumption
from parallel_hpo.supervisor.devices.assign import Grant
from parallel_hpo.supervisor.devices.library import DeviceLibrary, NoDriver
from parallel_hpo.supervisor.devices.metering import Account, Counter, Reading, begin, end, settle
from parallel_hpo.words import Slot

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

    def __init__(self, grants: Mapping[str, Grant], library: DeviceLibrary | NoDriver, rapl: Rapl) -> None:
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
        self._account = Account()
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
