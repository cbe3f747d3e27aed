"""A run as it is to be at another server: what its file says of it, and the files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from parallel_hpo.words import SweepPath


@dataclass(frozen=True, slots=True)
class ArtifactCopy:
    """A version of an artifact, as the run that logs it tells of it."""

    name: str
    """Without its version, which the other server gives it."""
    type: str
    digest: str
    client_id: str
    """By which tables within a run's history refer to it."""
    description: str
    metadata: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    ttl_s: int | None
    manifest: Mapping[str, Any]
    """As the client sent it."""
    files: Mapping[str, Path]
    """Where the bytes of each of its files are that is no reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCopy:
    """A run, but for its lines."""

    path: SweepPath
    """Of its sweep, at the other server."""
    run_id: str
    display_name: str
    notes: str
    group: str
    job_type: str
    host: str
    repo: str
    commit: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    began_at: float
    """Seconds since the epoch, from which its events' `_runtime` counts."""
    exit_code: int | None
    """None: it never told one."""
    files: tuple[str, ...]
    artifacts: tuple[ArtifactCopy, ...]


@dataclass(frozen=True, slots=True)
class ConsoleLine:
    """A line that a run printed; `at`: None where that is not known."""

    text: str
    at: datetime | None
    to_stderr: bool


@dataclass(frozen=True, slots=True)
class RunLines:
    """What a run told line by line; each is gone through once."""

    history: Iterable[str]
    """JSON, as its client sent it."""
    events: Iterable[str]
    console: Iterable[ConsoleLine]
