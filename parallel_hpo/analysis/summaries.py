"""What each run's own summary says: all that it logged last, as the wandb client left it in its folder.

wandb client: `<WANDB_DIR>/wandb/[offline-]run-<date>_<time>-<run id>/files/wandb-summary.json`, written
when the run is closed; a run whose process was killed has none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

SUMMARY: Final = "files/wandb-summary.json"
OF_THE_CLIENT: Final = "_wandb"
"""The one entry that no run has logged."""
_FOLDER: Final = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")


def read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the summaries of the runs of a sweep's runs, by their ids; its shares' and machines' too."""
    found = {run_id: read for _, run_id, path in sorted(_folders(folder)) if (read := _read(path))}
    return {run_id: _without_clients(summary) for run_id, summary in found.items()}


def _folders(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield when each run folder was made, whose it is, and its path; a run has one for each attempt."""
    homes = ("worker-*/wandb", "share-*/worker-*/wandb", "machine-*/worker-*/wandb")
    for home in (found for each in homes for found in folder.glob(each)):
        for entry in os.scandir(home):
            if match := _FOLDER.fullmatch(entry.name):
                yield match[1], match[2], entry.path


def _read(run_folder: str) -> dict[str, Any] | None:
    try:
        with open(f"{run_folder}/{SUMMARY}", "rb") as file:  # noqa: PTH123 - 10,000 of them in a second
            summary = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def _without_clients(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != OF_THE_CLIENT}
