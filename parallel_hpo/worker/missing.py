"""What a run's summary has in the place of the sweep's metric: for the warning that names it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from parallel_hpo.metric import MISSING, counting, find_value, lookup
from parallel_hpo.protocol.messages import MissingMetric

NOT_A_NUMBER: Final = {"NaN": "NaN", "Infinity": "infinity", "-Infinity": "-infinity"}
"""How wandb-core writes these into a summary; JSON has no words for them."""
SHOWN_CHARS: Final = 40


def explain_missing(summary: Mapping[str, Any], metric: str, goal: str) -> MissingMetric | None:
    """Return what is there instead of a finite number, and what was logged; None: the metric is there."""
    if find_value(summary, metric, goal) is not None:
        return None
    found = counting(lookup(summary, metric), goal)
    return MissingMetric(_in_words(found), tuple(sorted(_logged(summary))))


def _in_words(value: object) -> str:
    if value is MISSING or value == {}:
        return "nothing"
    match value:
        case None:
            return "nothing"
        case bool():
            return f"a boolean, {str(value).lower()}"
        case str():
            return NOT_A_NUMBER.get(value, f"a text, {value[:SHOWN_CHARS]!r}")
        case float():
            return "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
        case int():
            return "a number that is too large"
        case list():
            return "a list"
        case Mapping():
            return f"an object of type {value['_type']}" if "_type" in value else "a table of values"
    return f"a {type(value).__name__}"


def _logged(summary: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """Yield the names under which something was logged, nested ones with dots; wandb's own begin with _."""
    for key, value in summary.items():
        if key.startswith("_"):
            continue
        if isinstance(value, Mapping) and value and "_type" not in value:
            yield from _logged(value, f"{outer}{key}.")
        else:
            yield f"{outer}{key}"
