"""Which count a launch goes for, in a sweep of which its ledger may know an earlier part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parallel_hpo.notices import Message, Observer
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.resuming import AskedCount, Earlier, asked_count
from parallel_hpo.supervisor.setting import Setting


def ask_count(setting: Setting, ledger: Ledger) -> AskedCount:
    """Return the count of this launch, and say where it differs from the one that it goes on with."""
    asked = asked_count(
        setting.count,
        given="count" in setting.section.overridden,
        facts=ledger.facts,
        goes_on=setting.goes_on,
    )
    say_where_it_differs(asked, setting.observer)
    return asked


def say_where_it_differs(asked: AskedCount, observer: Observer) -> None:
    """Say the count of a launch where it is another one than that which it goes on with."""
    if asked.count != asked.was:
        now, before = (count or "without limit" for count in (asked.count, asked.was))
        observer(Message(f"count {now} from now on (it was {before})"))


def count_before(facts: Mapping[str, Any], earlier: Earlier, *, goes_on: bool) -> int:
    """Return how many runs had been performed here when this count began: a sweep may be joined again."""
    return int(facts.get("before", 0)) if goes_on else earlier.started - len(earlier.reruns)
