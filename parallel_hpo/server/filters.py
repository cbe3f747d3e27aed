"""W&B's filters and orders of runs: MongoDB's query words on a run's columns, config, summary and tags. Pure.

What is missing, null or NaN sorts last in both directions (wandb client: `best_run`
takes the first run on trust).
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.metric import MISSING, counting, lookup
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import strict

if TYPE_CHECKING:
    import regex

_MAX_PATTERN_LENGTH: Final = 1000
_MATCH_LIMIT_S: Final = 1.0
"""A pattern that takes longer for one text is one that goes back and forth in it without an end."""
_MAX_DEPTH: Final = 30

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

_COLUMNS: Final[Mapping[str, Callable[[Run], Any]]] = {
    "sweep": lambda run: run.sweep_id,
    "name": lambda run: run.name,
    "state": lambda run: run.state,
    "displayName": lambda run: run.display_name or run.name,
    "display_name": lambda run: run.display_name or run.name,
    "group": lambda run: run.group_name,
    "jobType": lambda run: run.job_type,
    "job_type": lambda run: run.job_type,
    "tags": lambda run: json.loads(run.tags),
    "host": lambda run: run.host,
    "notes": lambda run: run.notes,
    "createdAt": lambda run: run.created_at,
    "created_at": lambda run: run.created_at,
    "heartbeatAt": lambda run: run.heard_at,
    "heartbeat_at": lambda run: run.heard_at,
    "updatedAt": lambda run: run.heard_at,
}


def read_filters(text: str | None) -> dict[str, Any]:
    """Parse the filters of a request; RefusedError where they are no JSON object."""
    if not text:
        return {}
    try:
        value = json.loads(text)
        too_deep = _depth(value) > _MAX_DEPTH
    except (ValueError, RecursionError):
        raise RefusedError("filters: not valid JSON") from None
    if too_deep or (value is not None and not isinstance(value, dict)):
        raise RefusedError(f"filters: must be a JSON object, at most {_MAX_DEPTH} levels deep")
    return value or {}


def matches(run: Run, filters: Mapping[str, Any]) -> bool:
    """Say whether a run passes the filters; RefusedError names what is not understood of them."""
    return all(_clause(run, key, wanted) for key, wanted in filters.items())


def sorted_runs(runs: list[Run], order: str | None) -> list[Run]:
    """Sort runs by an order such as `-summary_metrics.loss,+created_at`; without one: newest first."""
    for part in reversed((order or "-created_at").split(",")):
        descending = not part.startswith("+")
        name = part.lstrip("+-")
        keyed = [(_sort_key(_counting(run, name, descending=descending)), run) for run in runs]
        known = [(key, run) for key, run in keyed if key is not None]
        known.sort(key=lambda pair: pair[0], reverse=descending)
        runs = [run for _, run in known] + [run for key, run in keyed if key is None]
    return runs


def value_of(run: Run, name: str) -> Any:
    """Return what `name` stands for: a column, `config.K.value`, `summary_metrics.K`, or a missing mark."""
    if name in _COLUMNS:
        return _COLUMNS[name](run)
    section, _, key = name.partition(".")
    if section == "summary_metrics":
        return lookup(json.loads(run.summary), key)
    if section == "config":
        return _config_value(json.loads(run.config), key)
    if section == "tags":
        return key in json.loads(run.tags)
    raise RefusedError(f"filter or order {name!r}: one of {', '.join(_COLUMNS)}, config.K, summary_metrics.K")


def _counting(run: Run, name: str, *, descending: bool) -> Any:
    """Return what a run is sorted by: of a metric that is an object what counts where the first is the best.

    wandb client: `best_run` asks for `-summary_metrics.K` where the goal is to maximize.
    """
    value = value_of(run, name)
    if not name.startswith("summary_metrics."):
        return value
    return counting(value, "maximize" if descending else "minimize")


def _clause(run: Run, key: str, wanted: Any) -> bool:
    if key in ("$and", "$or", "$nor"):
        results = (matches(run, _as_object(item, key)) for item in _as_list(wanted, key))
        return all(results) if key == "$and" else any(results) is (key == "$or")
    if key == "$not":
        return not matches(run, _as_object(wanted, key))
    value = value_of(run, key)
    if isinstance(wanted, dict):
        return all(_operator(value, name, operand) for name, operand in wanted.items())
    return _equals(value, wanted)


def _operator(value: Any, name: str, operand: Any) -> bool:
    match name:
        case "$eq":
            return _equals(value, operand)
        case "$ne":
            return not _equals(value, operand)
        case "$in" | "$nin":
            return any(_equals(value, item) for item in _as_list(operand, name)) is (name == "$in")
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _compare(value, name, operand)
        case "$regex":
            return isinstance(value, str) and _is_in(_pattern(operand), value)
        case "$exists":
            return (value is not MISSING) is bool(operand)
        case "$not":
            return not all(_operator(value, key, item) for key, item in _as_object(operand, name).items())
    raise RefusedError(f"filters: operator {name!r} isn't known here")


def _equals(value: Any, wanted: Any) -> bool:
    if value is MISSING:
        return wanted is None
    if isinstance(value, list) and not isinstance(wanted, list):
        return wanted in value
    return bool(strict(value) == strict(wanted))


def _compare(value: Any, name: str, operand: Any) -> bool:
    if isinstance(value, float) and isinstance(operand, str):
        operand = _seconds(operand)
    numbers = _is_number(value) and _is_number(operand)
    if not numbers and not (isinstance(value, str) and isinstance(operand, str)):
        return False
    return _COMPARISONS[name](value, operand)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_in(pattern: regex.Pattern[str], text: str) -> bool:
    try:
        # The interpreter's own module can neither be stopped nor lets another thread run meanwhile.
        return pattern.search(text, timeout=_MATCH_LIMIT_S, concurrent=True) is not None
    except TimeoutError:
        raise RefusedError(
            f"filters: $regex {pattern.pattern!r} takes more than {_MATCH_LIMIT_S:g} s for one text:"
            " say it without repetitions of repetitions"
        ) from None


def _pattern(operand: Any) -> regex.Pattern[str]:
    if not isinstance(operand, str) or len(operand) > _MAX_PATTERN_LENGTH:
        raise RefusedError("filters: $regex takes a pattern of at most 1000 characters")
    import regex  # most servers never need it

    try:
        return regex.compile(operand)
    except regex.error as error:
        raise RefusedError(f"filters: $regex {operand!r}: {error}") from None


def _as_list(operand: Any, name: str) -> list[Any]:
    if not isinstance(operand, list):
        raise RefusedError(f"filters: {name} takes a list")
    return operand


def _as_object(operand: Any, name: str) -> dict[str, Any]:
    if not isinstance(operand, dict):
        raise RefusedError(f"filters: {name} takes objects")
    return operand


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _config_value(config: dict[str, Any], key: str) -> Any:
    """Return `K`, `K.value` or `K.value.sub` of a config, whose values all stand under `value`."""
    plain = {name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in config.items()}
    found = lookup(plain, key)
    if found is not MISSING:
        return found
    head, marker, rest = key.partition(".value")
    return lookup(plain, head + rest) if marker else MISSING


def _sort_key(value: Any) -> tuple[int, float, str] | None:
    """Return a key that orders numbers before texts, or None for what sorts last."""
    if isinstance(value, bool | int | float):
        return None if value != value else (0, _as_float(value), "")
    return (1, 0.0, value) if isinstance(value, str) else None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
