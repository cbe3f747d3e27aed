"""What one call of `supervise` was given, for all that performs it.

What a ledger notes of the launch that goes on with it, here or at the head of many, and its count.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parallel_hpo.client.base import OpenedSweep
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.sweep import find_changes, in_words
from parallel_hpo.core.child_spec import ChildSetup, PickledMain
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.folders import find_directory
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Program, Target
from parallel_hpo.core.values import deadline_at, is_duration
from parallel_hpo.count.policy import Share
from parallel_hpo.pickling.main import note_main
from parallel_hpo.processes.environment import secrets_of
from parallel_hpo.session.resume import AskedCount, ResumeState, asked_count, count_or_cap
from parallel_hpo.session.signals import Control


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What one call of `supervise` was given, and its mark; times are monotonic seconds."""

    section: HpoSection
    main: PickledMain | Target | Program
    observer: Observer
    control: Control
    clock: Callable[[], float]
    jitter: Callable[[], float]
    mark: str
    began: float
    share: Share | None = None
    """This launch's share of the section's count; None: all of it."""
    resumes: bool = False
    """Whether it goes on with the count of an earlier launch."""
    keep_configuration: bool = False
    """Whether a resumed sweep goes on though the metric or goal of the section differs from its own."""
    name: Target | Program | None = None
    """How a later process finds `main`; None: by no name."""
    machine: str = ""
    """The folder of this machine's part within the sweep's, where the sweep has many; ''."""
    run_cap: int | None = None
    """The sweep's own limit of runs, once it is known; it counts where no other count is given."""

    @property
    def goes_on(self) -> bool:
        """Whether its count is the one of an earlier launch in its folder, if there was one."""
        return self.resumes or self.share is not None

    @property
    def count(self) -> int | None:
        """The runs that this launch is to perform; None: no limit."""
        total = self.section.count
        return total if total is None or self.share is None else self.share.count(total)

    def asked_count(self, facts: Mapping[str, Any], *, before: int) -> AskedCount:
        """Return this launch's count beside that of the one that it goes on with, whose facts these are.

        `before` runs of earlier counts have used up a part of the sweep's run_cap.
        """
        given = "count" in self.section.overridden
        count = count_or_cap(self.count, self.run_cap, before=before)
        return asked_count(count, given=given, facts=facts, goes_on=self.goes_on)

    def with_seed_of(self, facts: Mapping[str, Any]) -> LaunchSettings:
        """Return it with the seed that the sweep of these facts has; one that differs is told of."""
        kept, given = facts.get("seed"), self.section.seed
        if kept is None:
            return self
        if given not in (None, kept):
            words = f"hpo.seed is {given}, but the sweep was begun with {kept}, which its runs keep"
            self.observer(Message(words, warning=True))
        parameter = self.section.seed_parameter or facts.get("seed_parameter")
        changes = {"seed": kept, "seed_parameter": parameter}
        return replace(self, section=self.section.model_copy(update=changes))

    def compare_configuration(
        self, sweep: str, kept: Mapping[str, Any], *, metric_only: bool = False
    ) -> None:
        """Say where the section's sweep configuration differs from the one that a resumed sweep has `kept`.

        `metric_only`: nothing but the metric's name and goal is known of that.
        Raises ConfigError where one of those two differs, unless the launch accepts it.
        """
        wanted = self.section.sweep_configuration
        if not self.resumes or wanted is None:
            return
        changes = find_changes(wanted, kept)
        of_metric = [change for change in changes if change.is_of_metric]
        if of_metric and not self.keep_configuration:
            said = in_words(of_metric if metric_only else changes)
            raise ConfigError(
                f"hpo.sweep_configuration has changed: {said}; sweep {sweep} can't change its metric or goal:"
                " set them back, begin a new sweep, or go on with the sweep's own configuration by"
                " --keep-configuration (in Python: keep_configuration=True)"
            )
        if changes and not metric_only:
            words = f"hpo.sweep_configuration has changed: {in_words(changes)}; sweep {sweep} keeps the old"
            self.observer(Message(words, warning=True))

    def deadline_for_machines(self, wall: float) -> str | None:
        """Return the deadline as machines are given it: a duration as the moment at which it ends.

        `wall` is now, in seconds since the epoch. A duration is counted from this launch's beginning, which
        is before that of the pool.
        """
        deadline = self.section.deadline
        if deadline is None or not is_duration(deadline):
            return deadline
        at = deadline_at(deadline, began_at=wall - (self.clock() - self.began))
        return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")

    def deadline_at(self, wall: float) -> float | None:
        """Return by when all runs are to end, monotonic seconds; None: there is no deadline.

        `wall` is now, in seconds since the epoch. A duration is counted from this launch's beginning.
        """
        if self.section.deadline is None:
            return None
        now = self.clock()
        return now - wall + deadline_at(self.section.deadline, began_at=wall - (now - self.began))

    def folder_of(self, sweep_id: str) -> Path:
        """The folder of a sweep, or of this launch's or machine's part of it."""
        folder = self.section.directory / sweep_id / self.machine
        return folder if self.share is None else folder / self.share.folder


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """A launch, as far as a later one must know of it."""

    setting: LaunchSettings
    opened: OpenedSweep
    backend: str
    count: int | None
    """Of the sweep's runs in all, those of earlier counts included; None: no limit."""
    asked: AskedCount
    before: int
    """Runs of earlier counts."""
    main_folder: Path
    """Where a `main` without a name is kept."""
    surroundings: ChildSetup
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


def count_before(facts: Mapping[str, Any], earlier: ResumeState, *, goes_on: bool) -> int:
    """Return how many runs had been performed here when this count began: a sweep may be joined again."""
    return int(facts.get("before", 0)) if goes_on else earlier.started - len(earlier.reruns)
