"""Which count a launch goes for, in a sweep of which its ledger may know an earlier part."""

from __future__ import annotations

from parallel_hpo.notices import Message
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.resuming import AskedCount, Earlier, asked_count
from parallel_hpo.supervisor.setting import Setting


def ask_count(setting: Setting, ledger: Ledger) -> AskedCount:
    """Return the count of this launch, and say where it differs from the one that it goes on with."""
    asked = asked_count(
        setting.count,
        given="count" in setting.section.overridden,
        facts=ledger.facts,
        goes_on=setting.resumes or setting.share is not None,
    )
    if asked.count != asked.was:
        now, before = (count or "without limit" for count in (asked.count, asked.was))
        setting.observer(Message(f"count {now} from now on (it was {before})"))
    return asked


def count_before(setting: Setting, ledger: Ledger, earlier: Earlier) -> int:
    """Return how many runs had been performed here when this count began: a sweep may be joined again."""
    if setting.resumes or setting.share is not None:
        return int(ledger.facts.get("before", 0))
    return earlier.started - len(earlier.reruns)
