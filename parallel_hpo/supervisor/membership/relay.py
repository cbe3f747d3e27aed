"""Shows notices here, and passes them on to the head while this machine is in a pool.

Here the sweep is shown as what it is: of many machines, with a count that is all of theirs.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.notices import Notice, Observer, SweepOpened
from parallel_hpo.supervisor.membership.membership import Membership


class Relay:
    """An observer for two; from any thread."""

    def __init__(self, observer: Observer, count: int | None) -> None:
        """`count` is the sweep's, over all machines."""
        self._observer = observer
        self._count = count
        self.membership: Membership | None = None
        """Set while there is one."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        if isinstance(notice, SweepOpened):
            workers = "1 worker" if notice.workers == 1 else f"{notice.workers} workers"
            where = f"many machines, this one with {workers}"
            self._observer(replace(notice, count=self._count, machines=where))
        else:
            self._observer(notice)
        membership = self.membership
        if membership is not None:
            membership.note(notice)
