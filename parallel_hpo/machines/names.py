"""By which names and addresses machines are known.

Machines of one host's name are told apart: the second is NAME-2, for as long as it is there. This machine is
reached from another by its address on the way there.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from parallel_hpo.machines.base import FoundMachine


def address_towards(host: str) -> str | None:
    """Return this machine's address on the way to a host; None where no way is known. Nothing is sent."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except OSError:
        return None


class MachineNames:
    """What the machines of one engine are called, by their addresses."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, found: Sequence[tuple[str, str]]) -> tuple[FoundMachine, ...]:
        """Return machines of (address, host's name), in the order of their own names.

        A name is free again once its machine is gone: one that comes back may have another address.
        """
        there = {address for address, _ in found}
        self._names = {address: name for address, name in self._names.items() if address in there}
        machines = [self._machine(address, host) for address, host in found]
        return tuple(sorted(machines, key=lambda machine: machine.name))

    def _machine(self, address: str, host: str) -> FoundMachine:
        if address not in self._names:
            taken = set(self._names.values())
            names = (f"{host}-{number}" if number > 1 else host for number in range(1, len(taken) + 2))
            self._names[address] = next(name for name in names if name not in taken)
        return FoundMachine(self._names[address], address)
