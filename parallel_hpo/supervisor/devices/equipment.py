"""What each slot's worker of one sweep is given: its devices, their variables, the cores near them, a port.

A port is for a rendezvous of its own, where a worker has several devices, so that no two `torchrun` meet.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from parallel_hpo.supervisor.devices.assign import Grant
from parallel_hpo.supervisor.devices.library import DeviceLibrary, NoDriver
from parallel_hpo.supervisor.devices.meter import Meter, Rapl
from parallel_hpo.supervisor.devices.occupancy import Occupancy
from parallel_hpo.supervisor.devices.owners import Owners, who_is_there
from parallel_hpo.supervisor.devices.placing import Placement, is_stranger
from parallel_hpo.supervisor.devices.watch import DeviceWatch, processes_on
from parallel_hpo.words import Slot


def own_cores() -> frozenset[int]:
    """Return the logical cores that this process may run on; empty where the system doesn't say (macOS)."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


class Equipment:
    """The devices of one sweep, by the names that the slots know them by; `` names the processor."""

    def __init__(
        self,
        placement: Placement,
        library: DeviceLibrary | NoDriver,
        *,
        cores: Callable[[], frozenset[int]] = own_cores,
    ) -> None:
        self._placement = placement
        self._grants = {grant.name: grant for grant in placement.grants}
        self._cores = cores()
        self._ports = Ports()
        self.workers = placement.workers
        """How many slots there are at the start."""
        most = placement.most_workers
        self.occupancy = None if most is None else Occupancy(most)
        """Set where devices are shared by as many workers as their memory holds."""
        self.superseded = placement.superseded
        """Masks of the parent's that would be applied on top of a worker's own."""
        self.watch = DeviceWatch(self._grants, library)
        self.meter = Meter(self._grants, library, Rapl())
        self._library = library

    @property
    def names(self) -> tuple[str, ...]:
        """What the slots get in turn, as a worker's mask has it; empty: no devices."""
        return tuple(self._grants)

    def owners(self) -> Owners:
        """Return who tells of the devices' owners."""
        return Owners(
            self._grants,
            lambda name: processes_on(self._grants.get(name, Grant()), self._library),
            is_stranger=is_stranger,
            who_is_there=who_is_there,
        )

    def variables(self, slot: Slot, name: str) -> dict[str, str]:
        """Return the variables of a slot's next worker that have to do with its devices."""
        grant = self._grants.get(name, Grant())
        port = {"MASTER_PORT": str(self._ports.renew(slot))} if len(grant.devices) > 1 else {}
        return self._placement.variables(grant) | port

    def cpus(self, name: str) -> tuple[int, ...] | None:
        """Return the cores that a worker on these devices is bound to; None: it may use all of ours."""
        near = self._grants.get(name, Grant()).cpus & self._cores
        return tuple(sorted(near)) if near and near != self._cores else None


class Ports:
    """Free TCP ports, no two slots' the same."""

    def __init__(self) -> None:
        self._of: dict[Slot, int] = {}

    def renew(self, slot: Slot) -> int:
        """Return a port for the slot's next worker: what the last one left may still hold its own."""
        others = {port for other, port in self._of.items() if other != slot} | {self._of.get(slot)}
        while (port := _free_port()) in others:
            pass  # the system draws ports at random
        self._of[slot] = port
        return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
