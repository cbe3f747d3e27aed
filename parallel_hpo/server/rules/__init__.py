"""The server's decisions, all pure: moves of runs and sweeps, the answer to a heartbeat, early stopping,
branches of runs, and what becomes of a pool of many machines.
"""

from __future__ import annotations
