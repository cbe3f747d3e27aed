"""The embedded sweep server: what wandb's client talks to where there is no W&B account.

    http: access, app ─▶ graphql, resolvers, file_stream, uploads, supervision
          ─▶ *_service (one transaction each) ─▶ rules (pure), engines, store (SQL)

Started as a process of its own: see `process`.
"""

from __future__ import annotations
