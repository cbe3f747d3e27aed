"""One sweep on many machines: the coordinator, which runs in the process that called `optimize`.

    setup ─▶ session: server, sweep, pool, ledger
          ─▶ nodes: a node on each machine, through a cluster engine   (a thread)
          ─▶ watcher: requests to the pool and its news                (a thread)
          ─▶ loop: stops, deadlines, the end ─▶ EventCopier: the ledger, the observer

The coordinator executes no runs. The pool counts them, and nodes get their runs from it.
"""
