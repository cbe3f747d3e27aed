"""What a ledger notes of the launch that goes on with it, here or at the head of many, and its count."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parallel_hpo.backend.base import OpenedSweep
from parallel_hpo.config.directory import find_directory
from parallel_hpo.notices import Message, Observer
from parallel_hpo.protocol.spec import Surroundings
from parallel_hpo.supervisor.packing.naming import note_main
from parallel_hpo.supervisor.processes.environment import secrets_of
from parallel_hpo.supervisor.records.resuming import AskedCount, Earlier
from parallel_hpo.supervisor.setting import Setting


@dataclass(frozen=True, slots=True)
class NotedLaunch:
    """A launch, as far as a later one must know of it."""

    setting: Setting
    opened: OpenedSweep
    backend: str
    count: int | None
    """Of the sweep's runs in all, those of earlier counts included; None: no limit."""
    asked: AskedCount
    before: int
    """Runs of earlier counts."""
    main_folder: Path
    """Where a `main` without a name is kept."""
    surroundings: Surroundings
    """Those that `main` is looked for in."""

    def facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts; those of the sweep's beginning stay as they are `known`."""
        setting, opened = self.setting, self.opened
        return {
            "path": str(opened.path),
            "name": opened.configuration.get("name"),
            "began_at": known.get("began_at", time.time()),
            "url": opened.url,
            "backend": self.backend,
            "created": known.get("created", setting.section.sweep_id is None),
            "count": self.count,
            "count_given": self.asked.given,
            "before": self.before,
            "run_cap": opened.run_cap,
            "seed": setting.section.seed,
            "seed_parameter": setting.section.seed_parameter,
            "metric": opened.metric,
            "goal": opened.goal,
            "marks": [*known.get("marks", []), setting.mark],
            **note_main(
                setting.name, setting.main, self.main_folder, secrets_of(self.surroundings.environment)
            ),
            "working_folder": self.surroundings.folder,
            "sys_path": list(self.surroundings.sys_path),
        }


def say_where_it_differs(asked: AskedCount, observer: Observer) -> None:
    """Say the count of a launch where it is another one than that which it goes on with."""
    if asked.count != asked.was:
        now, before = (count or "without limit" for count in (asked.count, asked.was))
        observer(Message(f"count {now} from now on (it was {before})"))


def say_if_paused(opened: OpenedSweep, directory: Path, observer: Observer) -> None:
    """Say that the sweep is paused, and the command that lets it go on from a shell of this environment."""
    if not opened.is_paused:
        return
    words = ["parallel-hpo", "resume", opened.path.sweep_id]
    if directory != find_directory(None, os.environ):
        words += ["--directory", str(directory)]
    text = f"sweep {opened.path.sweep_id} is paused: it has no new run until `{shlex.join(words)}`"
    observer(Message(text, warning=True))


def count_before(facts: Mapping[str, Any], earlier: Earlier, *, goes_on: bool) -> int:
    """Return how many runs had been performed here when this count began: a sweep may be joined again."""
    return int(facts.get("before", 0)) if goes_on else earlier.started - len(earlier.reruns)
