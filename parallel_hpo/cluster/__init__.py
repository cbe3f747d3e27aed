"""One sweep on many machines, as seen by the process that called `optimize`: it performs no run itself.

    lead ─▶ stage: the server that machines reach, the sweep, its pool
         ─▶ crew: a node on each machine, through an engine          (a thread)
         ─▶ line: what the pool tells, and what it is told           (a thread)
         ─▶ loop: stops, deadlines, the end ─▶ mirror: the ledger, the observer

What is counted is in the pool (`protocol.pool`); nodes draw their runs there.
"""
