"""Optuna storages that tests read, with none of their connections left open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna


@contextmanager
def storage_in(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Yield the storage in a file, as a user of Optuna opens it."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
