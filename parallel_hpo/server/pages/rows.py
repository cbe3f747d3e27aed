"""A run as a row of a table: its facts as pages show them, and its parameters by their dotted names. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from parallel_hpo import metric
from parallel_hpo.config.sweep_words import Metric
from parallel_hpo.nested import dotted
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.store.watching import Seen

_OPEN: Final = frozenset(str(state) for state in OPEN)
FACTS: Final = ("id", "name", "state", "value", "started", "ended", "attempts", "worker", "sweep")
"""What is shown of each run besides its parameters, in the order of the columns."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run; `facts` in the order of FACTS, times in seconds since the epoch."""

    facts: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def row_of(seen: Seen, wanted: Metric | None, attempts: int = 1) -> Row:
    """Return a run's row; its value, where it is still open, is what its summary says now."""
    is_open = seen.state in _OPEN
    value = seen.value
    if value is None and is_open and wanted is not None and seen.summary:
        value = metric.find_value(json.loads(seen.summary), wanted.name, wanted.goal)
    facts = (
        seen.name,
        seen.display_name or seen.name,
        seen.state,
        value if value is None or math.isfinite(value) else None,
        seen.started_at,
        None if is_open or seen.started_at is None else seen.heard_at,
        0 if seen.started_at is None else attempts,
        worker_of(seen.opened_by or seen.agent_label or "", seen.host),
        seen.sweep_id,
    )
    return Row(facts, dict(dotted(plain_config(seen.given))))


def worker_of(label: str, host: str | None) -> str | None:
    """Return `host/slot` for a worker's label; the host alone where it is none of a supervisor's."""
    slot = slot_of(label)
    return host if slot is None else f"{host or '?'}/{slot}"


def slot_of(label: str) -> int | None:
    """Return the slot in a label as supervisors give them, `<mark>_<slot>_<number>`, or None."""
    words = label.rsplit("_", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdigit() and words[2].isdigit() else None


def plain_config(text: str) -> Mapping[str, Any]:
    """Return the values of a config as clients write it: each under `value`; without the client's own."""
    entries: Mapping[str, Any] = json.loads(text)
    return {
        name: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for name, entry in entries.items()
        if name != "_wandb"
    }
