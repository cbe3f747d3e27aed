"""Some entries of a JSON column's object, picked by the database: to read whole texts takes Python too long.

    '{"lr": …, "loss": NaN, …}' ──▶ '[["\\u0001NaN", null]]' ──▶ {"loss": nan}

A text of which the database may think otherwise than Python comes whole: one with escapes
in which a key could hide, or with more bare words (NaN, Infinity) than stand behind a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./ -]+")
"""Keys that SQLite finds in a text without escapes, whatever its version."""
_NOWHERE: Final = '$."\x01"'
"""A second path, so that SQLite returns a list of JSON and no value of its own kinds."""
_WORDS: Final = ("NaN", "Infinity", "-Infinity")
_MARK: Final = "\\u0001"
"""Stands before a bare word that was made a string: no other string of a text without escapes begins so."""


def picked(connection: Connection, column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    """Return an expression for a text of which `read` makes at least these entries of a column's object."""
    if connection.dialect.name == "postgresql":
        return _picked_by_postgresql(column, keys)
    return _picked_by_sqlite(column, keys)


def read(text: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """Return the entries; those that are not there are missing."""
    if not text.startswith("["):
        whole: Mapping[str, Any] = json.loads(text)
        return whole
    if _MARK in text:
        for word in _WORDS:
            text = text.replace(f'"{_MARK}{word}"', word)
    return {key: part[0] for key, part in zip(keys, json.loads(text), strict=True) if part}


def _picked_by_sqlite(column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    if not all(_PLAIN.fullmatch(key) for key in keys):
        return column
    escapes = ("\\u", "\\/") if any("/" in key for key in keys) else ("\\u",)
    readable = and_(*(func.instr(column, escape) == 0 for escape in escapes))
    worded = _with_words_as_strings(column)
    return case(
        (and_(readable, func.json_valid(column) == 1), _list_of(column, keys)),
        (and_(readable, func.json_valid(worded) == 1), _list_of(worded, keys)),
        else_=column,
    )


def _list_of(document: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    text: ColumnElement[str] = literal("[")
    for number, key in enumerate(keys):
        path = f'$."{key}"'
        entry = case(
            (func.json_type(document, path).is_(None), "0"),
            else_=func.json_extract(document, path, _NOWHERE),
        )
        text = text.concat(literal(",") if number else literal("")).concat(entry)
    return text.concat("]")


def _picked_by_postgresql(column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[str]:
    try:
        names = json.dumps(keys, ensure_ascii=False)
        names.encode()
    except UnicodeEncodeError:
        return column
    has_words = or_(*(func.strpos(column, word) > 0 for word in ("NaN", "Infinity")))
    found = case(
        (has_words, func.hpo_json_entries(_with_words_as_strings(column), names)),
        else_=func.hpo_json_entries(column, names),
    )
    return case((func.strpos(column, _MARK) == 0, func.coalesce(found, column)), else_=column)


def _with_words_as_strings(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return the text with bare words behind keys made strings; a string that has one is broken by it."""
    text = column
    for word in _WORDS:
        for colon in (":", ": "):
            text = func.replace(text, f"{colon}{word}", f'{colon}"{_MARK}{word}"')
    return text
