"""What the processors draw: RAPL's counters, as Linux has them in sysfs (Intel's, and AMD's since Zen).

Mostly for root to read since 2020, and not there in virtual machines: then there are none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from parallel_hpo.supervisor.devices.metering import Counter

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
