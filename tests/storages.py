"""Optuna storages that tests read."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def storage_in(file: Path) -> JournalStorage:
    """Return the storage in a file, as a user of Optuna opens it."""
    return JournalStorage(JournalFileBackend(str(file)))
