"""The doctor on devices: driver, mask, each device, MIG and MPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import psutil

from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.supervisor.devices.library import Device, DeviceLibrary, MaskVariable, NoDriver
from parallel_hpo.supervisor.devices.mask import Mask, VisibleDevice, find_visible, listed_under, read_mask

MPS: Final = "nvidia-cuda-mps"
"""How the names of its processes begin."""
ORDER: Final = "CUDA_DEVICE_ORDER"


def examine_devices(
    environment: Mapping[str, str],
    library: DeviceLibrary | NoDriver,
    *,
    is_stranger: Callable[[int], bool],
    mps_runs: bool,
) -> Iterator[Finding]:
    """Say what the driver tells, what the mask shows of it, and how each device is."""
    devices = () if isinstance(library, NoDriver) else library.list_devices()
    driver = None if isinstance(library, NoDriver) or not devices else library.variable
    mask = read_mask(environment, driver=driver)
    if isinstance(library, NoDriver):
        yield _on_no_driver(library)
        yield _on_mask(mask, find_visible(mask, None))
        return
    make = "AMD" if library.variable is MaskVariable.ROCR else "NVIDIA"
    yield good("driver", f"{make} {library.driver_version()}, {len(devices)} devices")
    listed = listed_under(mask, devices, driver=driver)
    visible = find_visible(mask, listed)
    yield _on_mask(mask, visible)
    if environment.get(ORDER, "PCI_BUS_ID") != "PCI_BUS_ID":
        words = f"{ORDER}={environment[ORDER]}, but workers get PCI_BUS_ID: an index may mean another device"
        yield warning("mask", words, f"unset {ORDER}, or name devices by their UUIDs")
    for device in listed or ():
        yield from _on_device(device, visible, library, is_stranger)
    yield _on_mps(visible) if mps_runs else good("MPS", "off")


def mps_runs() -> bool:
    """Return whether CUDA's Multi-Process Service runs here."""
    return any(str(process.info["name"]).startswith(MPS) for process in psutil.process_iter(["name"]))


def _on_no_driver(driver: NoDriver) -> Finding:
    if not driver.broken:
        return good("driver", f"{driver.reason}: workers compute on the processor, or on what a mask names")
    return bad("driver", driver.reason, "make `nvidia-smi` work first; after an update of the driver, reboot")


def _on_mask(mask: Mask, visible: Sequence[VisibleDevice]) -> Finding:
    if mask.entries is None and not visible:
        return good("mask", str(mask))
    tokens = ", ".join(each.token for each in visible) or "no device"
    if mask.entries and len(visible) < len(mask.entries):
        entry = mask.entries[len(visible)]
        words = f"{mask} shows {tokens}: {entry} is no device here or named twice, and hides all after it"
        return bad("mask", words, f"correct {mask.variable}")
    return good("mask", f"{mask} shows {tokens}")


def _on_device(
    device: Device,
    visible: Sequence[VisibleDevice],
    library: DeviceLibrary,
    is_stranger: Callable[[int], bool],
) -> Iterator[Finding]:
    subject = f"device {device.index}"
    tokens = ", ".join(each.token for each in visible if each.device == device)
    shown = f"visible as {tokens}" if tokens else "not visible here"
    usage = library.usage(device.uuid)
    if usage is None:
        yield bad(subject, f"{device.name} {device.uuid} does not answer", "see `nvidia-smi` and `dmesg`")
        return
    words = f"{device.name} {device.uuid}, {usage.used_mb:.0f} of {usage.total_mb:.0f} MB used, {shown}"
    strangers = [str(process.pid) for process in usage.processes if is_stranger(process.pid)]
    if strangers and tokens:
        words += f"; process {', '.join(strangers)} computes on it"
        yield warning(subject, words, 'devices "auto" leaves it out; name it in hpo.devices to use it')
    else:
        yield good(subject, words)
    yield from _on_partition(device, subject)
    errors = library.uncorrected_errors(device.uuid)
    if errors:
        words = f"{errors} uncorrected memory errors since the driver was loaded"
        yield warning(subject, words, "runs on it may fail: reset it, or leave it out by hpo.devices")


def _on_partition(device: Device, subject: str) -> Iterator[Finding]:
    if device.partitioned and not device.instances:
        yield bad(
            subject, "MIG is on, without an instance to compute on", "create instances, or turn MIG off"
        )
    elif device.partitioned:
        yield good(subject, f"MIG is on: {', '.join(device.instances)}")


def _on_mps(visible: Sequence[VisibleDevice]) -> Finding:
    by_index = [each.token for each in visible if each.token.isdigit()]
    if not by_index:
        return good("MPS", "on, and devices are named by UUID")
    words = (
        f"on: its clients may count devices otherwise than its server, and {', '.join(by_index)} are indices"
    )
    return warning("MPS", words, "name devices by UUID, in the mask or in hpo.devices")
