"""Where a run branches off: from its own history (rewound) or another run's (forked). Pure rules.

wandb client: a new run's configuration names the point; a rewound one is asked for by a mutation first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.values import merge_history_keys, read_object

METRIC: Final = "_step"
_STEPS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A step of a run's history; what is kept is all before `end`, the step itself too."""

    run: str
    step: int

    @property
    def end(self) -> int:
        """The first step that is not kept."""
        return self.step + 1


@dataclass(frozen=True, slots=True)
class Past:
    """What a history tells: which keys it has, and the last value of each."""

    history_keys: dict[str, Any]
    summary: dict[str, Any]


def point_in(config: Mapping[str, Any]) -> BranchPoint | None:
    """Return the point that a run's configuration names, or None; RefusedError for one that is none."""
    internal = config.get("_wandb")
    value = internal.get("value") if isinstance(internal, Mapping) else None
    named = value.get("branch_point") if isinstance(value, Mapping) else None
    if not named:
        return None
    run = named.get("run_id") if isinstance(named, Mapping) else None
    if not isinstance(run, str):
        raise RefusedError("the configuration's branch_point must name a run_id and a step")
    return BranchPoint(run, read_step(named.get("step")))


def read_step(value: Any) -> int:
    """Return the step that a client names, rounded down as it does; RefusedError for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value < _STEPS:
        raise RefusedError(f"{METRIC}={value}: a run branches off at a step of its history, 0 or more")
    return int(value)


def past_of(rows: Iterable[Mapping[str, Any]]) -> Past:
    """Return what these history rows tell."""
    summary: dict[str, Any] = {}

    def noted() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            summary.update(row)
            yield row

    return Past(merge_history_keys({}, noted()), summary)


def told_since(inherited: str | None, summary: str) -> str:
    """Return a run's summary: what its client tells, over what the run began with.

    wandb client: it begins with an empty summary of its own after a fork, and after a rewind.
    """
    if inherited is None:
        return summary
    return json.dumps(read_object(inherited, "summary") | read_object(summary, "summary"))
