"""AMD's devices, through what their kernel driver tells in sysfs: no ROCm library, no context.

`topology/nodes/<n>/`: processors and devices alike; a device has a `gpu_id`. `proc/<pid>/`: who
computes, with `vram_<gpu_id>` in bytes. Both as in the kernel's amdkfd.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from parallel_hpo.devices.library import Device, DeviceLibrary, DeviceProcess, MaskVariable, NoDriver, Usage

ROOT: Final = Path("/sys/class/kfd/kfd")
VERSION: Final = Path("/sys/module/amdgpu/version")
VIDEO_MEMORY: Final = ("1", "2")
"""`heap_type` of a device's own memory, as its host sees it or not."""
MB: Final = 2**20


class Kfd:
    """The driver's own answers, below `root`."""

    variable = MaskVariable.ROCR

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._nodes = {_uuid(node): node for node in _devices(root)}

    def driver_version(self) -> str:
        """Return it; a kernel's own driver has none apart."""
        return _read(VERSION) or "(the kernel's)"

    def list_devices(self) -> tuple[Device, ...]:
        """Return them in the order in which ROCR_VISIBLE_DEVICES counts."""
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
        """Return None: it is not told here."""
        return None

    def energy_j(self, uuid: str) -> float | None:
        """Return None: nor is this."""
        return None

    def close(self) -> None:
        """Nothing is open."""


def open_kfd(root: Path = ROOT) -> DeviceLibrary | NoDriver:
    """Return the library, or why there is none."""
    found = Kfd(root)
    return found if found.list_devices() else NoDriver("no AMD driver is installed")


def _devices(root: Path) -> Iterator[Path]:
    """Yield the nodes that are devices and that this process may use (a container may hide some)."""
    nodes = [path for path in root.glob("topology/nodes/*") if path.name.isdigit()]
    for node in sorted(nodes, key=lambda path: int(path.name)):
        if _read(node / "gpu_id") not in ("", "0"):
            yield node


def _uuid(node: Path) -> str:
    """A device's UUID as ROCm prints it; older ones have none."""
    unique = int(_properties(node / "properties").get("unique_id", "0"))
    return f"GPU-{unique:016x}" if unique else f"KFD-{_read(node / 'gpu_id')}"


def _properties(file: Path) -> Mapping[str, str]:
    pairs = (line.split(maxsplit=1) for line in _read(file).splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) > 1}


def _read(file: Path) -> str:
    """Return a file's text; '' where there is none, or it is not for us."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
