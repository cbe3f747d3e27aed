"""The embedded sweep server, which wandb's client uses without a W&B account.

    http ─▶ graphql ─▶ services (one transaction each) ─▶ rules (pure), engines, store (SQL)

It is a process of its own: see `http.process`.
"""

from __future__ import annotations
