"""Shows notices here, and passes them on to the head while this machine is in a pool."""

from __future__ import annotations

from parallel_hpo.notices import Notice, Observer
from parallel_hpo.supervisor.membership.membership import Membership


class Relay:
    """An observer for two; from any thread."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.membership: Membership | None = None
        """Set while there is one."""

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        self._observer(notice)
        membership = self.membership
        if membership is not None:
            membership.note(notice)
