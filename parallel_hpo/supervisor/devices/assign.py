"""How devices are dealt out to slots: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parallel_hpo.errors import ConfigError
from parallel_hpo.supervisor.devices.mask import VisibleDevice


@dataclass(frozen=True, slots=True)
class Grant:
    """The devices that a worker gets; none: it computes on the processor."""

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


def group(devices: Sequence[VisibleDevice], devices_per_worker: int) -> tuple[Grant, ...]:
    """Return what the slots are given in turn, so that neighbouring slots get different devices.

    Raises:
        ConfigError: there are not enough devices for one worker, or one of them is a MIG instance:
            a CUDA process can use one instance and nothing else.
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
    return tuple(Grant(tuple(devices[first : first + devices_per_worker])) for first in firsts)


def count_slots(groups: Sequence[Grant], *, workers: int | None, workers_per_device: int) -> int:
    """Return how many slots the devices get; `workers` None: as many as they take.

    Raises:
        ConfigError: more workers than the devices take.
    """
    most = len(groups) * workers_per_device
    if workers is not None and workers > most:
        devices = ", ".join(grant.name for grant in groups)
        raise ConfigError(
            f"hpo.workers is {workers}, but the devices ({devices}) take {most} at"
            f" hpo.workers_per_device {workers_per_device}; lower hpo.workers or raise hpo.workers_per_device"
        )
    return workers or most
