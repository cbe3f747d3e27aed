"""Values nested in objects, as parameters, configurations and summaries are: by name, and as JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

NestedName = tuple[str, ...]


def leaves(values: Mapping[str, Any], outer: NestedName = ()) -> Iterator[tuple[NestedName, Any]]:
    """Yield each value that is no group of others, by its names from the outside in.

    An empty object is a value, and so is one of W&B's media.
    """
    for name, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value:  # as JSON makes them
            yield from leaves(value, (*outer, name))
        else:
            yield (*outer, name), value


def dotted(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the same by dotted names."""
    for names, value in leaves(values):
        yield ".".join(names), value


def strict(value: Any) -> Any:
    """Return a value that strict JSON can hold: NaN and infinities become strings that wandb reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value
