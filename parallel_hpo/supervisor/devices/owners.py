"""Looks whether the owners of devices want them: a thread, as a driver or logind may take its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import psutil

from parallel_hpo.supervisor.devices.library import DeviceProcess
from parallel_hpo.supervisor.devices.presence import OwnersSeen

LOOK_EVERY_S: Final = 2.0
"""A person who comes back waits no longer for that than a program takes to start."""


class Owners:
    """Who wants the devices of one sweep, by their names."""

    def __init__(
        self,
        names: Iterable[str],
        processes: Callable[[str], Iterable[DeviceProcess]],
        *,
        is_stranger: Callable[[int], bool],
        who_is_there: Callable[[], str],
    ) -> None:
        """`processes` are those that compute on a device: those of now are none of ours."""
        self._names = tuple(names) or ("",)
        self._processes = processes
        self._is_stranger = is_stranger
        self._who_is_there = who_is_there
        self._before_us = {each.pid for name in self._names for each in processes(name)}

    def look(self) -> dict[str, str]:
        """Return by whom each device is wanted, in words; none that is not."""
        there = self._who_is_there()
        found = {name: there or self._who_computes(name) for name in self._names}
        return {name: who for name, who in found.items() if who}

    def _who_computes(self, name: str) -> str:
        pids = [str(each.pid) for each in self._processes(name) if self._is_others(each.pid)]
        return f"process {', '.join(pids)} computes on it" if pids else ""

    def _is_others(self, pid: int) -> bool:
        if psutil.pid_exists(pid):
            return self._is_stranger(pid)
        # Within a container the driver may know processes by numbers that mean nothing here, ours too.
        return pid in self._before_us


class OwnerWatch(threading.Thread):
    """Tells what is seen at each look that differs from the one before."""

    def __init__(
        self,
        look: Callable[[], Mapping[str, str]],
        tell: Callable[[OwnersSeen], None],
        *,
        seen: Mapping[str, str],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`seen` is what is known already."""
        super().__init__(name="parallel_hpo-owners", daemon=True)
        self._look = look
        self._tell = tell
        self._seen = dict(seen)
        self._every_s = every_s
        self._closing = threading.Event()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()

    def run(self) -> None:
        while not self._closing.wait(self._every_s):
            seen = dict(self._look())
            if seen != self._seen and not self._closing.is_set():
                self._seen = seen
                self._tell(OwnersSeen(seen))
