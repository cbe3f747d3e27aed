"""W&B's filters and orders of runs: MongoDB's query operators on columns, config, summary and tags. Pure.

Names are columns, `config.K.value`, `summary_metrics.K` and `tags.T`. Missing, null and NaN sort last in both
directions (wandb client: `best_run` takes the first run).
"""

from __future__ import annotations

import json
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from parallel_hpo.core.values import MISSING, counting, lookup, strict
from parallel_hpo.server.store.records import CLIENT_COLUMNS, Run
from parallel_hpo.server.values import RefusedError

if TYPE_CHECKING:
    import regex


_JSON_COLUMNS: Final = {"config": "config", "summary_metrics": "summary", "tags": "tags"}
"""The sections whose keys are names too, and their columns."""


class RunFacts:
    """The facts of a run that filters and orders use; its JSON is read when it is needed."""

    def __init__(self, column: Callable[[str], Any]) -> None:
        self.column = column
        """Returns a column's value."""

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration."""
        value: Mapping[str, Any] = json.loads(self.column("config"))
        return value

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The summary."""
        value: Mapping[str, Any] = json.loads(self.column("summary"))
        return value


def needs_of(names: Iterable[str]) -> dict[str, set[str]]:
    """Return the columns that the values of these names need, with the entries needed of JSON objects."""
    needs: dict[str, set[str]] = defaultdict(set)
    for name in names:
        section, key = section_of(name)
        column = _JSON_COLUMNS.get(section) or CLIENT_COLUMNS[section]
        for spelling in _spellings(key or ""):
            needs[column] |= {spelling, spelling.partition(".")[0]}
        if column == "display_name":
            needs["name"] = set()
    return needs


def value_of(facts: RunFacts, name: str) -> Any:
    """Return a name's value: a column, an entry of config or summary, or MISSING."""
    section, key = section_of(name)
    if key is not None and section == "summary_metrics":
        return lookup(facts.summary, key)
    if key is not None and section == "config":
        return _config_value(facts.config, key)
    column = CLIENT_COLUMNS[section]
    value = facts.column(column)
    if column == "tags":
        tags = json.loads(value)
        return tags if key is None else key in tags
    return value or facts.column("name") if column == "display_name" else value


@lru_cache(1024)
def section_of(name: str) -> tuple[str, str | None]:
    """Return a column's name and None, or a section and a key in it; RefusedError for any other name."""
    if name in CLIENT_COLUMNS:
        return name, None
    section, _, key = name.partition(".")
    if section not in _JSON_COLUMNS:
        raise RefusedError(
            f"filter or order {name!r}: one of {', '.join(CLIENT_COLUMNS)}, config.K, summary_metrics.K"
        )
    return section, key


def _spellings(key: str) -> tuple[str, ...]:
    """Return a key with and without `.value`, under which configs store their values."""
    head, marker, rest = key.partition(".value")
    return (key, head + rest) if marker else (key,)


def _config_value(config: Mapping[str, Any], key: str) -> Any:
    """Return `K`, `K.value` or `K.value.sub` of a config."""
    for spelling in _spellings(key):
        entries = {name: config[name] for name in (spelling, spelling.partition(".")[0]) if name in config}
        plain = {
            name: entry.get("value") if isinstance(entry, dict) else entry for name, entry in entries.items()
        }
        if (value := lookup(plain, spelling)) is not MISSING:
            return value
    return MISSING


T = TypeVar("T")
_SortValue = tuple[int, float, str]
SortKeys = tuple[_SortValue | None, ...]

_MAX_PATTERN_LENGTH: Final = 1000
_MATCH_LIMIT_S: Final = 1.0
"""Timeout of a pattern on one text, in seconds, against excessive backtracking."""
_MAX_DEPTH: Final = 30

COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class SortKey:
    """One part of an order."""

    name: str
    descending: bool


def read_filters(text: str | None) -> dict[str, Any]:
    """Parse a request's filters; RefusedError if they are no JSON object."""
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


def read_order(text: str | None) -> tuple[SortKey, ...]:
    """Parse an order such as `-summary_metrics.loss,+created_at`; the default is newest first."""
    parts = (text or "-created_at").split(",")
    keys = tuple(SortKey(part.lstrip("+-"), descending=not part.startswith("+")) for part in parts)
    for key in keys:
        section_of(key.name)
    return keys


def names_in(filters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names in filters; RefusedError for an unknown one."""
    for key, wanted in filters.items():
        if key in ("$and", "$or", "$nor"):
            for item in _as_list(wanted, key):
                yield from names_in(_as_object(item, key))
        elif key == "$not":
            yield from names_in(_as_object(wanted, key))
        else:
            section_of(key)
            yield key


def matches(run: Run, filters: Mapping[str, Any]) -> bool:
    """Return whether a run passes the filters; RefusedError for invalid ones."""
    return passes(RunFacts(partial(getattr, run)), filters)


def passes(facts: RunFacts, filters: Mapping[str, Any]) -> bool:
    """Return whether a run with these facts passes the filters."""
    return all(_clause(facts, key, wanted) for key, wanted in filters.items())


def sort_keys(facts: RunFacts, order: Iterable[SortKey]) -> SortKeys:
    """Return a run's sort keys, one per part of the order: numbers before texts, None last."""
    return tuple(_sort_value(_sorted_value(facts, key)) for key in order)


def _sorted_value(facts: RunFacts, key: SortKey) -> Any:
    """Return a run's value for a part of an order; of a metric that is an object, the best first.

    wandb client: `best_run` requests `-summary_metrics.K` if the goal is to maximize.
    """
    value = value_of(facts, key.name)
    if not key.name.startswith("summary_metrics."):
        return value
    return counting(value, "maximize" if key.descending else "minimize")


def sort_by(found: list[tuple[T, SortKeys]], order: Sequence[SortKey]) -> list[T]:
    """Sort items by their sort keys; ties keep their order."""
    for number, key in reversed(list(enumerate(order))):
        known = [(item[1][number], item) for item in found]
        found = [item for value, item in known if value is None]
        sortable = [(value, item) for value, item in known if value is not None]
        sortable.sort(key=lambda entry: entry[0], reverse=key.descending)
        found = [item for _, item in sortable] + found
    return [item for item, _ in found]


def seconds(text: str) -> float:
    """Parse an operand's time into seconds since the epoch; NaN for an invalid one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_number(value: Any) -> bool:
    """Return whether a value can be compared with a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _clause(facts: RunFacts, key: str, wanted: Any) -> bool:
    if key in ("$and", "$or", "$nor"):
        results = (passes(facts, _as_object(item, key)) for item in _as_list(wanted, key))
        return all(results) if key == "$and" else any(results) is (key == "$or")
    if key == "$not":
        return not passes(facts, _as_object(wanted, key))
    value = value_of(facts, key)
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
    raise RefusedError(f"filters: unknown operator {name!r}")


def _equals(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) and isinstance(wanted, str):
        return value == wanted
    if value is MISSING:
        return wanted is None
    if isinstance(value, list) and not isinstance(wanted, list):
        return wanted in value
    return bool(strict(value) == strict(wanted))


def _compare(value: Any, name: str, operand: Any) -> bool:
    if isinstance(value, float) and isinstance(operand, str):
        operand = seconds(operand)
    numbers = is_number(value) and is_number(operand)
    if not numbers and not (isinstance(value, str) and isinstance(operand, str)):
        return False
    return COMPARISONS[name](value, operand)


def _is_in(pattern: regex.Pattern[str], text: str) -> bool:
    try:
        # The standard module `re` has no timeout and blocks other threads.
        return pattern.search(text, timeout=_MATCH_LIMIT_S, concurrent=True) is not None
    except TimeoutError:
        raise RefusedError(
            f"filters: $regex {pattern.pattern!r} takes more than {_MATCH_LIMIT_S:g} s for one text:"
            " avoid repetitions of repetitions"
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


def _sort_value(value: Any) -> _SortValue | None:
    """Return a sort key with numbers before texts, or None for what sorts last."""
    if isinstance(value, bool | int | float):
        return None if value != value else (0, _as_float(value), "")
    return (1, 0.0, value) if isinstance(value, str) else None


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
