"""Looks after devices whose worker died, until they can be handed on; the loop asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from parallel_hpo.supervisor.devices.library import DeviceLibrary, DeviceProcess, NoDriver, Usage
from parallel_hpo.supervisor.devices.occupancy import DeviceMemorySeen
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

    def held(self, device: str, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
        """Return what workers hold of a slot's devices; `owner` says to which slot a process belongs."""
        return [
            seen
            for usage in _usages_of(self._grants[device], self._library)
            for seen in _shares_of(usage, owner)
        ]

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
    return [process for usage in _usages_of(grant, library) for process in usage.processes]


def _usages_of(grant: Grant, library: DeviceLibrary | NoDriver) -> list[Usage]:
    if isinstance(library, NoDriver):
        return []
    usages = [library.usage(each.uuid) for each in grant.devices if each.uuid]
    return [usage for usage in usages if usage]


def _shares_of(usage: Usage, owner: Callable[[int], Slot | None]) -> list[DeviceMemorySeen]:
    """Return what slots hold of a device; what is free, or theirs, is the room for workers."""
    held: dict[Slot, float] = {}
    for process in usage.processes:
        slot = owner(process.pid) if process.used_mb is not None else None
        if slot is not None:
            held[slot] = held.get(slot, 0.0) + (process.used_mb or 0.0)
    room_mb = usage.total_mb - usage.used_mb + sum(held.values())
    return [DeviceMemorySeen(slot, used_mb, room_mb) for slot, used_mb in held.items()]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
