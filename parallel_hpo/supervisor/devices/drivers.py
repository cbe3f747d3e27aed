"""The driver that there is on this machine."""

from __future__ import annotations

from parallel_hpo.supervisor.devices.kfd import open_kfd
from parallel_hpo.supervisor.devices.library import DeviceLibrary, NoDriver
from parallel_hpo.supervisor.devices.nvml import open_nvml


def open_driver() -> DeviceLibrary | NoDriver:
    """Return NVIDIA's library, or AMD's where NVIDIA's driver is not installed; or why there is none."""
    nvml = open_nvml()
    if not isinstance(nvml, NoDriver) or nvml.broken:
        return nvml
    kfd = open_kfd()
    return nvml if isinstance(kfd, NoDriver) else kfd
