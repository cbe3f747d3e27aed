"""How many runs a launch on many machines goes for, of those that its pool has and had. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parallel_hpo.protocol.pool import NewPool
from parallel_hpo.supervisor.noted_launch import count_before
from parallel_hpo.supervisor.records.ledger_reader import RunRow
from parallel_hpo.supervisor.records.resuming import AskedCount, asked_count, count_or_cap, read_earlier


@dataclass(frozen=True, slots=True)
class PoolCount:
    """The count of a launch."""

    total: int | None
    """Of the pool's runs in all, those of earlier counts included; None: no limit."""
    before: int
    """Runs of earlier counts."""
    asked: AskedCount


def count_runs(
    count: int | None,
    *,
    run_cap: int | None = None,
    given: bool,
    resumes: bool,
    facts: Mapping[str, Any],
    rows: Iterable[RunRow],
    known: NewPool | None,
) -> PoolCount:
    """Return the count of a launch that asks for `count`; `facts` and `rows` are the ledger's.

    The sweep's own `run_cap` counts where no count is given.
    What an empty ledger can't say of the sweep that is resumed, its pool does: the total.
    """
    if resumes and "count" not in facts and known is not None:
        facts = {**facts, "count": known.count, "count_given": count is None}
    before = count_before(facts, read_earlier(rows), goes_on=resumes)
    count = count_or_cap(count, run_cap, before=before)
    asked = asked_count(count, given=given, facts=facts, goes_on=resumes)
    return PoolCount(None if asked.count is None else before + asked.count, before, asked)
