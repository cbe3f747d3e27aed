"""The embedded sweep server: what wandb's client talks to where there is no W&B account.

    http ─▶ graphql ─▶ services (one transaction each) ─▶ rules (pure), engines, store (SQL)

Started as a process of its own: see `http.process`.
"""

from __future__ import annotations
