"""Whether deaths before Ready mean that every worker would die so.

A `main` that won't unpickle or a module that isn't there fails alike in every
slot; the second such death with the same cause ends the sweep (uvicorn, whose
supervisor learnt the same: encode/uvicorn#2289).
"""

from __future__ import annotations

SAME_CAUSE_LIMIT = 2
"""One such death may be chance (memory, a full disk); two alike are not."""


def is_hopeless(causes: tuple[str, ...]) -> bool:
    """Return whether the last of `causes` (of deaths before Ready, in order) has come too often."""
    return bool(causes) and causes.count(causes[-1]) >= SAME_CAUSE_LIMIT
