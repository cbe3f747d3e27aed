"""Devices visible by the parent's mask, and their assignment to slots. Pure.

A token is an entry of CUDA_VISIBLE_DEVICES: an index, a UUID or a prefix of one, a MIG instance's UUID.
Workers get the parent's tokens unchanged: with 0 for the parent's 3, a worker would use a device that is not
the parent's. In CUDA, an empty mask shows no device, and an invalid entry hides all entries after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.devices.library import Device, MaskVariable

MIG: Final = "MIG-"
UUIDS: Final = ("GPU-", MIG)


FURTHER_MASKS: Final[Mapping[MaskVariable, tuple[str, ...]]] = {
    MaskVariable.CUDA: (),
    MaskVariable.ROCR: ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
}
"""Masks that an AMD runtime applies after its own, which has renumbered the devices: the parent's values
would hide a worker's only device."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The parent's mask; `entries` is None without one: all devices are visible."""

    variable: MaskVariable
    entries: tuple[str, ...] | None

    def __str__(self) -> str:
        return "no mask" if self.entries is None else f"{self.variable}={','.join(self.entries)}"


@dataclass(frozen=True, slots=True)
class VisibleDevice:
    """A device visible to the parent as `token`."""

    token: str
    uuid: str = ""
    """Its own, or its MIG instance's; empty without a driver."""
    device: Device | None = None

    @property
    def is_instance(self) -> bool:
        """Return whether it is a MIG instance."""
        return self.token.startswith(MIG) or (self.device is not None and self.device.partitioned)


def read_mask(environment: Mapping[str, str], *, driver: MaskVariable | None) -> Mask:
    """Return the mask that applies here; `driver` is the mask variable of the driver, if there is one.

    A batch system may set the masks of all makes: NVIDIA's applies if its driver is there.
    """
    variable = _variable(environment, driver)
    text = environment.get(variable)
    if text is None:
        return Mask(variable, None)
    entries = tuple(entry.strip() for entry in text.split(","))
    return Mask(variable, () if entries == ("",) else entries)


def _variable(environment: Mapping[str, str], driver: MaskVariable | None) -> MaskVariable:
    if driver is MaskVariable.CUDA:
        return MaskVariable.CUDA
    masked = any(name in environment for name in FURTHER_MASKS[MaskVariable.ROCR])
    if MaskVariable.ROCR in environment or (driver is MaskVariable.ROCR and not masked):
        return MaskVariable.ROCR
    return MaskVariable.CUDA


def listed_under(
    mask: Mask, devices: Sequence[Device] | None, *, driver: MaskVariable | None
) -> Sequence[Device] | None:
    """Return the devices for comparison with a mask's tokens; None: the tokens are not checked.

    With AMD's driver, tokens are never checked: only a missing mask is understood.
    """
    if driver is MaskVariable.ROCR:
        return devices if mask == Mask(driver, None) else None
    return None if mask.variable is MaskVariable.ROCR else devices


def find_visible(mask: Mask, devices: Sequence[Device] | None) -> tuple[VisibleDevice, ...]:
    """Return the devices that the mask shows, in its order; `devices` is None without a driver's list."""
    if mask.entries is None:
        return tuple(each for device in devices or () for each in _without_mask(device))
    shown: list[VisibleDevice] = []
    for entry in mask.entries:
        found = find_device(entry, devices)
        if found is None or any(_is_same(found, other) for other in shown):
            break
        shown.append(found)
    return tuple(shown)


def find_device(token: str, devices: Sequence[Device] | None) -> VisibleDevice | None:
    """Return the device of a token; None if it is invalid or ambiguous."""
    is_index = token.isascii() and token.isdigit()
    if devices is None:
        return VisibleDevice(token) if is_index or token.startswith(UUIDS) else None
    if is_index:
        found = [_whole(token, device) for device in devices if device.index == int(token)]
    elif token.startswith(MIG):
        found = [
            VisibleDevice(token, uuid, device)
            for device in devices
            for uuid in device.instances
            if uuid.startswith(token)
        ]
    elif token.startswith(UUIDS):
        found = [_whole(token, device) for device in devices if device.uuid.startswith(token)]
    else:
        return None
    return found[0] if len(found) == 1 else None


def choose(
    visible: Sequence[VisibleDevice], wanted: Sequence[str], mask: Mask, devices: Sequence[Device] | None
) -> tuple[VisibleDevice, ...]:
    """Return the wanted devices by the parent's tokens, in the wanted order.

    Raises:
        ConfigError: the mask doesn't show one, or one is named twice.
    """
    chosen: list[VisibleDevice] = []
    for token in wanted:
        found = _find_wanted(token, visible, mask, devices)
        if found is None:
            shown = ", ".join(each.token for each in visible) or "none"
            raise ConfigError(
                f"hpo.devices names {token!r}, which is not visible here ({mask}); visible: {shown}"
            )
        if any(_is_same(found, other) for other in chosen):
            raise ConfigError(
                f"hpo.devices names {token!r} twice; name each device once"
                " (hpo.workers_per_device puts several workers on each)"
            )
        chosen.append(found)
    return tuple(chosen)


def _find_wanted(
    token: str, visible: Sequence[VisibleDevice], mask: Mask, devices: Sequence[Device] | None
) -> VisibleDevice | None:
    exact = [each for each in visible if each.token == token]
    if exact:
        return exact[0]
    named = find_device(token, devices)
    if named is None or (mask.entries is None and devices is None):
        return named  # without mask and driver, the user decides
    return next((each for each in visible if _is_same(each, named)), None)


def _without_mask(device: Device) -> list[VisibleDevice]:
    if device.partitioned:
        return [VisibleDevice(uuid, uuid, device) for uuid in device.instances]
    return [VisibleDevice(str(device.index), device.uuid, device)]


def _whole(token: str, device: Device) -> VisibleDevice:
    """Return a whole device by its token; of a partitioned one, CUDA uses the first instance."""
    uuid = device.instances[0] if device.instances else device.uuid
    return VisibleDevice(token, uuid, device)


def _is_same(one: VisibleDevice, other: VisibleDevice) -> bool:
    if one.uuid and other.uuid:
        return one.uuid == other.uuid
    return one.token == other.token


@dataclass(frozen=True, slots=True)
class WorkerDevices:
    """The devices of a worker; none: it computes on the CPU."""

    devices: tuple[VisibleDevice, ...] = ()

    @property
    def name(self) -> str:
        """The tokens as a mask has them, `3` or `3,5`; empty without devices."""
        return ",".join(each.token for each in self.devices)

    @property
    def cpus(self) -> frozenset[int]:
        """The cores near its devices; empty where that is not known of all of them."""
        near = [each.device.cpus if each.device else frozenset() for each in self.devices]
        return frozenset().union(*near) if all(near) else frozenset()


def group(devices: Sequence[VisibleDevice], devices_per_worker: int) -> tuple[WorkerDevices, ...]:
    """Return the groups of devices that slots get in turn, so that neighbouring slots get different ones.

    Raises:
        ConfigError: there are not enough devices for one worker, or one of several is a MIG instance: a CUDA
            process can use only one instance and no other device.
    """
    instance = next((each.token for each in devices if each.is_instance), None)
    if devices_per_worker > 1 and instance is not None:
        raise ConfigError(
            f"hpo.devices_per_worker is {devices_per_worker}, but {instance} is a MIG instance, beside which"
            " a process can use no other device; set it to 1, or name whole devices in hpo.devices"
        )
    if len(devices) < devices_per_worker:
        raise ConfigError(
            f"hpo.devices_per_worker is {devices_per_worker}, but there are {len(devices)} devices to use;"
            " lower it"
        )
    firsts = range(0, len(devices) - devices_per_worker + 1, devices_per_worker)
    return tuple(WorkerDevices(tuple(devices[first : first + devices_per_worker])) for first in firsts)


def count_slots(groups: Sequence[WorkerDevices], *, workers: int | None, workers_per_device: int) -> int:
    """Return the number of slots; `workers` None: the devices' maximum.

    Raises:
        ConfigError: more workers than that maximum.
    """
    most = len(groups) * workers_per_device
    if workers is not None and workers > most:
        devices = ", ".join(grant.name for grant in groups)
        raise ConfigError(
            f"hpo.workers is {workers}, but the devices ({devices}) take {most} at"
            f" hpo.workers_per_device {workers_per_device}; lower hpo.workers or raise hpo.workers_per_device"
        )
    return workers or most
