"""One launch of a sweep on this machine: setup, loop, decisions and the end; also a node's part in a pool.

`setup.supervise` runs a sweep, `planning.plan_sweep` returns what it would do. wandb is imported in children
only.
"""
