"""How a message becomes JSON, and comes back as what it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Told = TypeVar("Told")


def as_json(told: Any) -> Any:
    """Return a message as what JSON can hold: what `main` has printed or raised may be anything."""
    return _plain(asdict(told))


def _plain(value: Any) -> Any:
    """Return a value without what JSON or a database can't hold: half characters, numbers that are none."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return {_plain(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value


def read(kind: type[Told], body: object) -> Told:
    """Return the message of that kind; ValueError names the field that is wrong."""
    from pydantic import ValidationError

    try:
        told: Told = _adapter(cast(Any, kind)).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{kind.__name__}.{where}: {first['msg']}") from None
    return told


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # slow to import, and most servers are told of no pool

    return TypeAdapter(kind)
