"""Runs that a sweep's server counts as running and that nobody started: found and named at a sweep's end."""

from __future__ import annotations

from parallel_hpo.backend.base import Backend
from parallel_hpo.errors import ParallelHPOError
from parallel_hpo.notices import Message
from parallel_hpo.supervisor.control.patience import Patience
from parallel_hpo.supervisor.decisions.view import Ending
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import StopKind, SweepPath


def find_phantoms(
    backend: Backend, path: SweepPath, ledger: Ledger, ending: Ending, setting: Setting, patience: Patience
) -> tuple[str, ...]:
    """Return, and name, what the server counts as running in a sweep of ours and nobody started.

    Raises:
        StoppedError: a stop left no time to ask.
    """
    if ending.stop is StopKind.KILL or not ledger.facts["created"] or setting.share:
        return ()
    known = {row.run_id for row in ledger.runs()}
    try:
        found = tuple(patience.call(lambda: backend.phantoms(path, known)))
    except ParallelHPOError as error:
        words = f"whether the server lists runs that nobody started could not be asked: {error}"
        setting.observer(Message(words, warning=True))
        return ()
    if found:
        words = f"the server lists runs of the sweep that no worker started: {', '.join(found)}"
        setting.observer(Message(words, warning=True))
    return found
