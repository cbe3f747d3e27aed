"""The storage of a study that is only drawn. Imports Optuna at once: whoever needs it imports it late."""

from __future__ import annotations

from collections.abc import Container

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState


class UnchangingStorage(InMemoryStorage):
    """Hands out its trials as they are: a plot asks for all of them up to eleven times.

    Optuna copies them each time, in case somebody changes them, at 0.3 ms for each.
    """

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials themselves, whatever `deepcopy` says."""
        return super().get_all_trials(study_id, deepcopy=False, states=states)
