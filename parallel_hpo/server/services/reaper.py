"""Notices silence: started runs become crashed, runs that a silent stranger never started wait for another.

The server hears nothing while it is down, so silence is judged only once it has
been up for as long as the silence must last, and its clock has gone on undisturbed for so long.
"""

from __future__ import annotations

from parallel_hpo.server.rules.run_states import silence
from parallel_hpo.server.services.moves import happened
from parallel_hpo.server.services.unstarted import give_back
from parallel_hpo.server.store import outstanding
from parallel_hpo.server.world import World


def reap(world: World, *, up_since: float) -> list[str]:
    """Look for silence once, and return the names of the runs of which nothing was heard."""
    before = world.clock() - world.patience.silent_s
    if before < max(up_since, world.clock_set_at()):
        return []
    with world.database.write() as transaction:
        silent = outstanding.silent(transaction, before)
        for run in silent:
            happened(transaction, run, silence(stop_requested=run.stop_requested))
        stranded = outstanding.never_started_by_silent_strangers(transaction, before)
        for run in stranded:
            give_back(transaction, run)
    return [run.name for run in (*silent, *stranded)]
