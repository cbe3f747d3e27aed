"""Leftovers of a script: processes, shared memory, and temporary files.

Processes are recognized by their `HOME`, the trial's own folder. Files are grouped by kind, their name
without random parts, so that leftovers of a sweep can be compared with those of the script alone.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SHARED_MEMORY: Final = Path("/dev/shm")
KILLED: Final = frozenset({"$TMPDIR/tmp*wandb-media", "$TMPDIR/tmp*wandb-artifacts", "$TMPDIR/pymp-*"})
"""Leftovers of any killed process that has used wandb or multiprocessing's connections."""
HELPERS: Final = ("resource_tracker", "wandb-core", "wandb-symon")
PATIENCE_S: Final = 12.0
"""Wait in seconds; wandb-core ends up to 4 s after a killed parent on an idle machine, and then cleans up."""
_RANDOM: Final = re.compile(r"(?<=tmp)[a-z0-9_]{8}|(?<=-)[a-z0-9_]{8}$|[0-9a-f]{8,}|\d+")


@dataclass(frozen=True)
class Before:
    """The state before a start."""

    shared: frozenset[str]


def look_around() -> Before:
    """Return the current state, for a comparison after a start."""
    return Before(frozenset(_shared()))


def left(before: Before, env: Mapping[str, str]) -> list[str]:
    """Return the kinds of leftovers since then of a script that ran with `env`; kill its processes."""
    deadline = time.monotonic() + PATIENCE_S
    while _living(env) and time.monotonic() < deadline:
        time.sleep(0.1)
    found = sorted(set(_left(before, env)))
    for process in _living(env):
        process.kill()
    return found


def ask_to_leave(env: Mapping[str, str]) -> None:
    """End the remaining processes of a killed one; helpers that clean up after it end by themselves."""
    for process in _living(env):
        if not any(helper in _words(process) for helper in HELPERS):
            with suppress(psutil.Error):
                process.terminate()


def kind(name: str) -> str:
    """Return a file's name with * for its random parts."""
    return _RANDOM.sub("*", name)


def _left(before: Before, env: Mapping[str, str]) -> Iterator[str]:
    for process in _living(env):
        yield f"process {_words(process)}"
    for name in _shared() - before.shared:
        yield f"/dev/shm/{kind(name)}"
    for path in Path(env["TMPDIR"]).iterdir():
        yield f"$TMPDIR/{kind(path.name)}"


def _shared() -> set[str]:
    """Return the names of this user's shared memory; that of other users may change at any time."""
    if not SHARED_MEMORY.is_dir():
        return set()
    return {entry.name for entry in os.scandir(SHARED_MEMORY) if _is_ours(entry)}


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False


def _living(env: Mapping[str, str]) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _home(process) == env["HOME"]]


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except (psutil.Error, OSError):
        return None


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:120]
    except psutil.Error:
        return str(process.pid)
