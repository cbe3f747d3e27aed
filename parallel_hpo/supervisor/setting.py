"""What one call of `supervise` was given, for all that performs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parallel_hpo.config.durations import deadline_at, is_duration
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.sweep_changes import find_changes, in_words
from parallel_hpo.errors import ConfigError
from parallel_hpo.notices import Message, Observer
from parallel_hpo.plan import Share
from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.records.resuming import AskedCount, asked_count, count_or_cap
from parallel_hpo.words import Program, Target


@dataclass(frozen=True, slots=True)
class Setting:
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

    def with_seed_of(self, facts: Mapping[str, Any]) -> Setting:
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
