"""Pure functions on data from clients (JSON, history keys, console lines), and how a request is refused.

What a status does to wandb's client: it shows 200 with `errors` at once; it doesn't retry 4xx, which ends
a run's data stream; it retries 503, for days.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from parallel_hpo.core.values import MISSING, lookup, strict


class RefusedError(Exception):
    """A request is refused: the message is for the user, `status` is the HTTP status for the client."""

    def __init__(self, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


_BIGGEST_STEP: Final = 2**63 - 1


def read_object(text: str, what: str) -> dict[str, Any]:
    """Parse a JSON object; RefusedError (400) calls an invalid one `what`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedError(f"{what} is not valid JSON", status=400) from None
    if not isinstance(value, dict):
        raise RefusedError(f"{what} must be a JSON object, not {type(value).__name__}", status=400)
    return value


def step_of(row: Mapping[str, Any]) -> int | None:
    """Return a history row's `_step`, or None if it has none that a database can hold."""
    step = row.get("_step")
    if isinstance(step, bool) or not isinstance(step, int) or abs(step) > _BIGGEST_STEP:
        return None
    return step


def merge_history_keys(known: dict[str, Any], rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a run's history keys (W&B's format) after new rows."""
    counts = {name: dict(entry["typeCounts"][0]) for name, entry in known.get("keys", {}).items()}
    latest = {
        name: entry["previousValue"]
        for name, entry in known.get("keys", {}).items()
        if "previousValue" in entry
    }
    last_step = known.get("lastStep", -1)
    for row in rows:
        last_step = max(last_step, step_of(row) or 0)
        for name, value in _flat(row):
            if name not in counts:
                counts[name] = {"type": _type_name(value), "count": 0}
            counts[name]["count"] += 1
            if isinstance(value, int | float):
                latest[name] = value
    keys: dict[str, dict[str, Any]] = {name: {"typeCounts": [entry]} for name, entry in counts.items()}
    for name, value in latest.items():
        keys[name]["previousValue"] = strict(value)
    return {"sets": [], "keys": keys, "lastStep": last_step}


def sample(row: Mapping[str, Any], keys: list[str]) -> dict[str, Any] | None:
    """Return `keys` of a history row, or None if one is missing; without keys, the whole row."""
    if not keys:
        return dict(row)
    found = {key: lookup(row, key) for key in keys}
    return None if MISSING in found.values() else found


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a row's entries; nested ones under their dotted path, as W&B does."""
    for name, value in row.items():
        if isinstance(value, dict) and "_type" not in value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, Mapping):
        return str(value.get("_type", "map"))
    return "list" if isinstance(value, list) else "string"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A console line; `timestamp` in ISO 8601, or None if the client sent none."""

    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


def read_line(number: int, text: str) -> LogLine:
    """Parse a stored line: `ERROR <time> <text>` for stderr, `<time> <text>` otherwise."""
    level = "error" if text.startswith("ERROR ") else None
    rest = text.removeprefix("ERROR ")
    stamp, space, line = rest.partition(" ")
    if not space or not _is_time(stamp):
        return LogLine(number, None, level, None, rest)
    return LogLine(number, f"{stamp}Z", level, None, line)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "T" in text


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A GraphQL request's body."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


def read_request(body: Any) -> GraphQLRequest:
    """Parse a GraphQL request's body; RefusedError (400) says what is wrong with it."""
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise RefusedError("the body must be a JSON object with a query", status=400)
    variables = body.get("variables")
    if variables is not None and not isinstance(variables, dict):
        raise RefusedError("variables must be an object", status=400)
    # wandb client: requests of the Public API carry an empty operationName.
    name = body.get("operationName") or None
    if name is not None and not isinstance(name, str):
        raise RefusedError("operationName must be a string", status=400)
    return GraphQLRequest(body["query"], variables, name)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a GraphQL request."""

    data: dict[str, Any]
    must_last: bool
    """Whether the transaction must be on the disk before the answer is sent."""
