"""What each run's own summary says: all that it logged last, as the wandb client left it in its folder.

wandb client: `files/wandb-summary.json` in the run's folder is written when the run is closed; one whose
process was killed has none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from parallel_hpo.run_folders import RunFolder, run_folders

SUMMARY: Final = "files/wandb-summary.json"
OF_THE_CLIENT: Final = "_wandb"
"""The one entry that no run has logged."""
_PIECE: Final = 1 << 20


def read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the summaries of a sweep's runs by their ids, those of its shares and machines too."""
    found = sorted(_folders(folder))
    return {each.run_id: read for each in found if (read := _read(each.path)) is not None}


def _folders(folder: Path) -> Iterator[RunFolder]:
    homes = ("worker-*/wandb", "share-*/worker-*/wandb", "machine-*/worker-*/wandb")
    for home in (found for each in homes for found in folder.glob(each)):
        yield from run_folders(home)


def _read(run_folder: str) -> dict[str, Any] | None:
    """Return a run's summary without the client's own entry; None where there is none to be read."""
    try:
        summary = json.loads(_text(f"{run_folder}/{SUMMARY}"))
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict):
        return None
    summary.pop(OF_THE_CLIENT, None)
    return summary


def _text(path: str) -> str:
    """Read a file past Python's own files, which take three times as long for a small one."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(file, _PIECE)
        while len(content) % _PIECE == 0 and (more := os.read(file, _PIECE)):
            content += more
    finally:
        os.close(file)
    return content.decode()
