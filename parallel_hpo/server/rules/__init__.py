"""Pure decisions of the server: state changes of runs and sweeps, heartbeats, early stopping, branches."""

from __future__ import annotations
