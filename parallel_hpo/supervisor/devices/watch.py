"""Looks after devices whose worker died, until they can be handed on; the loop asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from parallel_hpo.supervisor.devices.assign import Grant
from parallel_hpo.supervisor.devices.handover import (
    HANDOVER_LIMIT_S,
    LOOK_EVERY_S,
    DeviceClear,
    holders_in_words,
    still_held,
)
from parallel_hpo.supervisor.devices.library import DeviceLibrary, DeviceProcess, NoDriver
from parallel_hpo.words import Slot


@dataclass(frozen=True, slots=True)
class _Wait:
    """For what a slot waits, and since when."""

    device: str
    since: float


class DeviceWatch:
    """The devices of one sweep, by name; times are monotonic seconds."""

    def __init__(self, grants: Mapping[str, Grant], library: DeviceLibrary | NoDriver) -> None:
        self._grants = dict(grants)
        self._library = library
        self._waits: dict[Slot, _Wait] = {}
        self._strangers = {process.pid for device in self._grants for process in self._processes(device)}
        self.look_at: float | None = None
        """When to call `look` next; None: nothing is waited for."""

    def begin(self, slot: Slot, device: str, now: float) -> None:
        """Wait for the devices of a slot whose worker died."""
        self._waits[slot] = _Wait(device, now)
        self.look_at = now

    def look(self, now: float) -> list[DeviceClear]:
        """Return the slots whose devices are free now, or have been waited for long enough."""
        if self.look_at is None or now < self.look_at:
            return []
        found = [self._look(slot, wait, now) for slot, wait in self._waits.items()]
        done = [clear for clear in found if clear is not None]
        for clear in done:
            del self._waits[clear.slot]
        self.look_at = now + LOOK_EVERY_S if self._waits else None
        return done

    def _look(self, slot: Slot, wait: _Wait, now: float) -> DeviceClear | None:
        processes = self._processes(wait.device)
        held = still_held(processes, strangers=frozenset(self._strangers), is_alive=_is_alive)
        if not held:
            return DeviceClear(slot)
        if now - wait.since < HANDOVER_LIMIT_S:
            return None
        self._strangers.update(process.pid for process in held)
        return DeviceClear(slot, held_by=holders_in_words(held))

    def _processes(self, device: str) -> list[DeviceProcess]:
        return processes_on(self._grants[device], self._library)


def processes_on(grant: Grant, library: DeviceLibrary | NoDriver) -> list[DeviceProcess]:
    """Return what computes on some devices, as far as their driver says it."""
    if isinstance(library, NoDriver):
        return []
    usages = [library.usage(each.uuid) for each in grant.devices if each.uuid]
    return [process for usage in usages if usage for process in usage.processes]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
