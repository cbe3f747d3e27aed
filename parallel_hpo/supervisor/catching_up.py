"""What a server is yet to hear of the part of a sweep that an earlier supervisor performed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from parallel_hpo.supervisor.records.resuming import Earlier, unsent_folders
from parallel_hpo.supervisor.server_calls import ServerCalls
from parallel_hpo.words import RunId


def catch_up(
    server_calls: ServerCalls,
    marks: Sequence[str],
    earlier: Earlier,
    folder: Path,
    last_starts: Callable[[], Mapping[RunId, float]],
) -> None:
    """Have it take back what the supervisors of these marks left, and told of ends that it has not heard."""
    for mark in marks:
        server_calls.give_back(mark, [run.run_id for run in earlier.reruns])
    if marks:
        server_calls.settle_earlier(earlier.ended)
        for run_id, unsent in unsent_folders(folder, earlier.ended, last_starts):
            server_calls.tell_end(run_id, earlier.ended[run_id], [unsent])
