"""The settings of one launch: its arguments, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.sweep import find_changes, in_words
from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Program, Target
from parallel_hpo.core.values import deadline_at, is_duration
from parallel_hpo.count.policy import Share
from parallel_hpo.processes.reaper import new_owner_id
from parallel_hpo.session.resume import LaunchCount, ResumeState, launch_count
from parallel_hpo.session.signals import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings:
    """The arguments of one launch, and its owner id; times are monotonic seconds."""

    section: HpoSection
    main: PickledMain | Target | Program
    observer: Observer
    control: Control
    owner_id: str = field(default_factory=new_owner_id)
    began: float = field(default_factory=time.monotonic)
    share: Share | None = None
    """This launch's share of the count; None: all of it."""
    resumes: bool = False
    """It continues the count of an earlier launch."""
    keep_configuration: bool = False
    """A resumed sweep continues though the section has another metric or goal."""
    name: Target | Program | None = None
    """Name by which a later process finds `main`, if any."""
    machine: str = ""
    """Folder of this machine within the sweep's; empty on one machine."""
    run_cap: int | None = None
    """The sweep's own limit of runs, once known; used if no other count is given."""

    @property
    def goes_on(self) -> bool:
        """Return whether it continues the count of an earlier launch in its folder, if there was one."""
        return self.resumes or self.share is not None

    @property
    def count(self) -> int | None:
        """The number of runs of this launch; None: no limit."""
        total = self.section.count
        return total if total is None or self.share is None else self.share.count(total)

    def launch_count(self, facts: Mapping[str, Any], earlier: ResumeState) -> LaunchCount:
        """Return this launch's count; `facts` and `earlier` are of the ledger that it continues."""
        return launch_count(
            self.count,
            run_cap=self.run_cap,
            given="count" in self.section.overridden,
            facts=facts,
            earlier=earlier,
            goes_on=self.goes_on,
        )

    def with_seed_of(self, facts: Mapping[str, Any]) -> LaunchSettings:
        """Return the settings with the seed of a resumed sweep; warn if the section has another."""
        kept, given = facts.get("seed"), self.section.seed
        if kept is None:
            return self
        if given not in (None, kept):
            words = f"hpo.seed is {given}, but the sweep began with seed {kept} and keeps it"
            self.observer(Message(words, warning=True))
        parameter = self.section.seed_parameter or facts.get("seed_parameter")
        changes = {"seed": kept, "seed_parameter": parameter}
        return replace(self, section=self.section.model_copy(update=changes))

    def compare_configuration(
        self, sweep: str, kept: Mapping[str, Any], *, metric_only: bool = False
    ) -> None:
        """Warn where the section's sweep configuration differs from a resumed sweep's (`kept`).

        Args:
            metric_only: `kept` has only the metric's name and goal.

        Raises:
            ConfigError: the metric's name or goal differs, and the launch does not accept that.
        """
        wanted = self.section.sweep_configuration
        if not self.resumes or wanted is None:
            return
        changes = find_changes(wanted, kept)
        of_metric = [change for change in changes if change.is_of_metric]
        if of_metric and not self.keep_configuration:
            diff = in_words(of_metric if metric_only else changes)
            raise ConfigError(
                f"hpo.sweep_configuration has changed: {diff}; sweep {sweep} can't change its metric or goal:"
                " set them back, begin a new sweep, or go on with the sweep's own configuration by"
                " --keep-configuration (in Python: keep_configuration=True)"
            )
        if changes and not metric_only:
            words = f"hpo.sweep_configuration has changed: {in_words(changes)}; sweep {sweep} keeps the old"
            self.observer(Message(words, warning=True))

    def deadline_for_machines(self, wall: float) -> str | None:
        """Return the deadline for other machines: a duration becomes a point in time.

        A duration begins with this launch, which is before the pool. `wall` is now, in seconds since the
        epoch.
        """
        deadline = self.section.deadline
        if deadline is None or not is_duration(deadline):
            return deadline
        at = deadline_at(deadline, began_at=wall - (self.control.clock() - self.began))
        return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")

    def deadline_left_s(self, wall: float) -> float | None:
        """Return the seconds left until the deadline, None if there is none.

        A duration begins with this launch. `wall` is now, in seconds since the epoch.
        """
        if self.section.deadline is None:
            return None
        return deadline_at(self.section.deadline, began_at=wall - (self.control.clock() - self.began)) - wall

    def folder_of(self, sweep_id: str) -> Path:
        """Return the folder of a sweep, or of this launch's or machine's part of it."""
        folder = self.section.directory / sweep_id / self.machine
        return folder if self.share is None else folder / self.share.folder
