"""`parallel-hpo clean`: says which sweeps' folders would go, and removes them where it is told to."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from parallel_hpo.cli.output import print_for_machines, print_for_people, warn
from parallel_hpo.errors import BackendError, UsageError
from parallel_hpo.server import local, sweep_removal
from parallel_hpo.server.store.failures import UnavailableError
from parallel_hpo.server.store.holdings import Holding
from parallel_hpo.server.world import World
from parallel_hpo.supervisor.records.cleaning import MB, Leftover, look_at, remove
from parallel_hpo.supervisor.records.sweep_folders import find_sweep, known_sweeps

UNITS_S: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is done with a folder; `keep` says why it stays, '' where it goes."""

    leftover: Leftover
    keep: str
    held: Holding
    """What the embedded server has of it."""

    @property
    def size_mb(self) -> float:
        """What it takes up in all."""
        return self.leftover.size_mb + self.held.size / MB

    @property
    def words(self) -> str:
        """A line on it."""
        each = self.leftover
        what = f"stays: {self.keep}" if self.keep else "; ".join(["goes", *each.regrets])
        return f"{each.sweep_id}  {self.size_mb:.1f} MB  {_in_words(each.age_s)} old  {what}"


def clean(
    directory: Path, sweeps: Sequence[str], older_than: str | None, *, yes: bool, as_json: bool
) -> None:
    """Remove old sweeps, their folders and what the embedded server has of them, or only say which.

    All that are over and whose servers have all of them, or those that are named, whatever is lost then.

    Raises:
        UsageError: an unknown sweep, or an age that is none.
        LedgerError: a supervisor has begun to work in one meanwhile.
        BackendError: the embedded server's database is busy, or has no room.
    """
    least_s = 0.0 if older_than is None else _parse_age(older_than)
    named = [find_sweep(directory, name) for name in sweeps]
    found = named or known_sweeps(directory, unreadable=warn)
    now = time.time()
    try:
        with local.opened(directory) as world:
            verdicts = [
                _judge(look_at(known, now=now), least_s, held_by(world, known.sweep_id), named=bool(sweeps))
                for known in found
            ]
            if yes:
                _remove([verdict.leftover for verdict in verdicts if not verdict.keep], world)
    except UnavailableError as error:
        raise BackendError(
            f"the embedded server's database can't be used now: {error}; try again later"
        ) from None
    if as_json:
        print_for_machines(json.dumps([_as_dict(verdict, removed=yes) for verdict in verdicts], indent=2))
    else:
        _show(verdicts, yes=yes)


def held_by(world: World | None, sweep_id: str) -> Holding:
    """Return what the embedded server has of a sweep; nothing where there is none."""
    return Holding() if world is None else sweep_removal.measure(world, sweep_id)


def _remove(going: Sequence[Leftover], world: World | None) -> None:
    for leftover in going:
        if world is None:
            remove(leftover)
        else:
            remove(leftover, partial(sweep_removal.remove, world, leftover.sweep_id))
    try:
        if world is not None:
            world.database.give_room_back()
    except UnavailableError as error:
        print_for_people(
            f"the embedded server's database keeps its size for now ({error}): clean again later"
        )


def _judge(leftover: Leftover, least_s: float, held: Holding, *, named: bool) -> Judgement:
    return Judgement(leftover, next(_reasons_to_keep(leftover, least_s, named=named), ""), held)


def _reasons_to_keep(leftover: Leftover, least_s: float, *, named: bool) -> Iterator[str]:
    if leftover.running:
        yield "it is running"
    if leftover.age_s < least_s:
        yield "it is not that old"
    if leftover.regrets and not named:
        yield f"{'; '.join(leftover.regrets)} (name it to remove it all the same)"


def _show(verdicts: Sequence[Judgement], *, yes: bool) -> None:
    for verdict in verdicts:
        print_for_machines(verdict.words)
    going = [verdict for verdict in verdicts if not verdict.keep]
    total = f"{len(going)} of {len(verdicts)} sweeps, {sum(each.size_mb for each in going):.1f} MB"
    print_for_people(f"removed: {total}" if yes else f"{total} to be removed; nothing is, without --yes")


def _as_dict(verdict: Judgement, *, removed: bool) -> dict[str, object]:
    each = verdict.leftover
    return {
        "sweep": each.sweep_id,
        "folder": str(each.folder),
        "age_s": round(each.age_s),
        "size_mb": round(verdict.size_mb, 3),
        "rows": verdict.held.rows,
        "bytes": verdict.held.size,
        "keep": verdict.keep,
        "lost": list(each.regrets),
        "removed": removed and not verdict.keep,
    }


def _parse_age(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise UsageError(f"--older-than {text}: allowed: a number with m, h, d or w, such as 30d")
    return int(match[1]) * UNITS_S[match[2]]


def _in_words(age_s: float) -> str:
    unit = next((name for name in ("d", "h") if age_s >= UNITS_S[name]), "m")
    return f"{age_s / UNITS_S[unit]:.0f} {unit}"
