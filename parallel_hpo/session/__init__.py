"""Supervise a sweep: `launch.supervise` performs one, `planning.plan_sweep` says what it would do.

`loop` waits, lets `decisions` decide, and acts; `processes` makes and kills, `records` remembers,
`control` hears of stops, `devices` knows what there is to compute on. wandb is never imported
here: it lives in children. Nothing is imported by the package itself: who only reads records needs no more.
"""
