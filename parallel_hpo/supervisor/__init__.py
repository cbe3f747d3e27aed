"""Supervise a sweep: `supervise` performs one, `plan_sweep` says what it would do.

`loop` waits, lets `decisions` decide, and acts; `processes` makes and kills, `records` remembers,
`control` hears of stops, `devices` knows what there is to compute on. wandb is never imported
here: it lives in children.
"""

from __future__ import annotations

from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.launch import create_sweep, supervise
from parallel_hpo.supervisor.planning import SweepPlan, plan_sweep

__all__ = ["Control", "SweepPlan", "create_sweep", "plan_sweep", "supervise"]
