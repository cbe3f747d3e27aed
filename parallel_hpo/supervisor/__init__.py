"""Supervise a sweep: `supervise` performs one, `plan_sweep` says what it would do.

`loop` waits, lets `decide` decide, and acts; `children` makes and kills processes;
`ledger` remembers. wandb is never imported here: it lives in children.
"""

from __future__ import annotations

from parallel_hpo.supervisor.launch import create_sweep, supervise
from parallel_hpo.supervisor.planning import SweepPlan, plan_sweep
from parallel_hpo.supervisor.signals import Control

__all__ = ["Control", "SweepPlan", "create_sweep", "plan_sweep", "supervise"]
