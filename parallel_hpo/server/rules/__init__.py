"""The server's decisions, all pure: run states, sweep states, and the answer to a heartbeat."""

from __future__ import annotations
