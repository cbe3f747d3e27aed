"""A rendezvous port of its own for each worker with several devices, so that no two `torchrun` meet."""

from __future__ import annotations

import socket

from parallel_hpo.words import Slot


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
