"""Checks of the machine (cores, start method, open files, shared memory, disk) and of its devices."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.config.section import StartMethod
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.drivers import MB
from parallel_hpo.devices.library import Device, DeviceLibrary, MaskVariable, NoDriver
from parallel_hpo.devices.mask import Mask, VisibleDevice, find_visible, listed_under, read_mask
from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.processes.environment import count_open, soft_limit_for
from parallel_hpo.records.folders import MOUNTS, file_system_problem

SHARED_MB: Final = 1024
"""Recommended free shared memory in MB: data loaders use it for batches; containers often have 64 MB."""
DISK_MB: Final = 1024
"""Recommended free disk space in MB: a worker's log may grow to 256 MB, and W&B keeps each run's files."""
DISK_BAD_MB: Final = 100


def examine_cores(cores: int, physical: int) -> Finding:
    """Report how many cores may be used."""
    total = os.cpu_count() or cores
    words = f"{cores} of {total} logical cores may be used, {physical} workers without devices"
    return good("cores", words)


def examine_start_method(method: StartMethod) -> Finding:
    """Report how workers start, and its cost."""
    if method is StartMethod.SPAWN:
        words = "spawn: each worker imports wandb again, which takes more time and memory"
        return warning("start method", words, "use forkserver, unless a library is unsafe to fork")
    if sys.platform != "linux":
        words = f"forkserver; on {sys.platform} a killed worker's processes in other sessions are not found"
        return warning("start method", words, "let runs start no daemons")
    return good("start method", "forkserver")


def examine_descriptors(workers: int) -> Finding:
    """Check that the limit of open files is enough for the workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        wanted = soft_limit_for(workers, already_open=count_open(), soft=soft, hard=hard)
    except ConfigError as error:
        return bad("open files", str(error), "raise `ulimit -Hn`, or lower hpo.workers")
    raised = f", raised to {wanted} at the start" if wanted != soft else ""
    return good("open files", f"limit {soft}{raised}, enough for {workers} workers")


def examine_places(
    directory: Path, shared: Path = Path("/dev/shm"), mounts: Path = MOUNTS
) -> Iterator[Finding]:
    """Check the space for shared memory and for the directory of sweeps."""
    if sys.platform == "linux":
        yield _on_shared(shared)
    yield _on_directory(directory)
    if problem := file_system_problem(directory, mounts):
        yield warning("directory", problem, "set hpo.directory to a folder on a local disk")


def _on_shared(shared: Path) -> Finding:
    subject = str(shared)
    if not shared.is_dir():
        return warning(subject, "is missing", "mount it: data loaders with workers of their own need it")
    free_mb = shutil.disk_usage(shared).free / MB
    if free_mb < SHARED_MB:
        advice = "give a container more (docker run --shm-size=8g), or use data loaders without workers"
        return warning(subject, f"{free_mb:.0f} MB free", advice)
    return good(subject, f"{free_mb:.0f} MB free")


def _on_directory(directory: Path) -> Finding:
    subject = "directory"
    nearest = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        words = f"{directory} can't be created or written"
        return bad(subject, words, "set hpo.directory to a folder of your own")
    free_mb = shutil.disk_usage(nearest).free / MB
    words = f"{directory}, {free_mb:.0f} MB free"
    if free_mb < DISK_BAD_MB:
        return bad(subject, words, "make room, or set hpo.directory to another disk")
    if free_mb < DISK_MB:
        return warning(subject, words, "make room, or set hpo.directory to another disk")
    return good(subject, words)


MPS: Final = "nvidia-cuda-mps"
"""Prefix of the names of MPS's processes."""
ORDER: Final = "CUDA_DEVICE_ORDER"


def examine_devices(
    environment: Mapping[str, str],
    library: DeviceLibrary | NoDriver,
    *,
    is_foreign: Callable[[int], bool],
    mps_runs: bool,
) -> Iterator[Finding]:
    """Check the driver, the mask, each device, MIG and MPS."""
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
        yield from _on_device(device, visible, library, is_foreign)
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
        words = f"{mask} shows {tokens}: {entry} is not a device here or named twice, and hides all after it"
        return bad("mask", words, f"correct {mask.variable}")
    return good("mask", f"{mask} shows {tokens}")


def _on_device(
    device: Device,
    visible: Sequence[VisibleDevice],
    library: DeviceLibrary,
    is_foreign: Callable[[int], bool],
) -> Iterator[Finding]:
    subject = f"device {device.index}"
    tokens = ", ".join(each.token for each in visible if each.device == device)
    shown = f"visible as {tokens}" if tokens else "not visible here"
    usage = library.usage(device.uuid)
    if usage is None:
        yield bad(subject, f"{device.name} {device.uuid} does not answer", "see `nvidia-smi` and `dmesg`")
        return
    words = f"{device.name} {device.uuid}, {usage.used_mb:.0f} of {usage.total_mb:.0f} MB used, {shown}"
    foreign = [str(process.pid) for process in usage.processes if is_foreign(process.pid)]
    if foreign and tokens:
        words += f"; process {', '.join(foreign)} computes on it"
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
