"""Records each call of the client's public API: its arguments, and its value or error."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import wandb

MOST_ITEMS: Final = 20
SIMPLE: Final = (bool, int, float, str, type(None))
VOLATILE: Final = (
    (r"https?://127\.0\.0\.1:\d+", "URL"),
    (r"(run|offline-run)-\d{8}_\d{6}", r"\1-TIME"),
    (r"\d{8}_\d{6}", "TIME"),
    (r"0x[0-9a-f]+", "ADDRESS"),
    (r"tmp\w+", "TMP"),
)


class Book:
    """The rows of one case: by the member's name, each call's arguments and result."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}
        """Placeholders for names that differ between runs."""

    def note(
        self, name: str, act: Callable[[], Any], *, only_type: bool = False, arguments: Sequence[str] = ()
    ) -> Any:
        """Call `act`, add its result to the row `name`, and return it (None if it failed)."""
        row = self.rows.setdefault(name, {"arguments": [], "brought": []})
        row["arguments"] = sorted({*row["arguments"], *arguments})
        try:
            value = act()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # any exception is recorded
            row["brought"].append(f"{type(error).__name__}: {self._in_text(error)}")
            return None
        row["brought"].append(type(value).__name__ if only_type else self.shown(value))
        return value

    def read(self, owner: object, name: str, *, only_type: bool = False) -> Any:
        """Read a property."""
        return self.note(f"{_named(owner)}.{name}", lambda: getattr(owner, name), only_type=only_type)

    def write(self, owner: object, name: str, value: object) -> None:
        """Set a property."""
        self.note(f"{_named(owner)}.{name}", lambda: setattr(owner, name, value), arguments=["="])

    def call(self, owner: Any, name: str, /, *, only_type: bool = False, **arguments: Any) -> Any:
        """Call a method with these arguments, and exhaust a generator."""

        def act() -> Any:
            value = getattr(owner, name)(**arguments)
            return list(islice(value, MOST_ITEMS)) if isinstance(value, Iterator) else value

        return self.note(f"{_named(owner)}.{name}", act, only_type=only_type, arguments=list(arguments))

    def shown(self, value: object) -> Any:
        """Return a comparable value: simple values unchanged, others as their type's name."""
        if isinstance(value, str | Path):
            return self._in_text(value)
        if isinstance(value, SIMPLE):
            return value
        if isinstance(value, Mapping):
            return {str(key): self.shown(item) for key, item in islice(value.items(), MOST_ITEMS)}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.shown(item) for item in islice(value, MOST_ITEMS)]
        return type(value).__name__

    def _in_text(self, value: object) -> str:
        text = str(value)
        for name, word in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(name, word)
        for pattern, word in VOLATILE:
            text = re.sub(pattern, word, text)
        return " ".join(text.split())[:200]

    def know(self, run: Any) -> None:
        """Replace this run's own names and paths by placeholders."""
        place = os.environ.get("WANDB_DIR", "")
        known = {run.id: "RUN", run.sweep_id: "SWEEP", run.name: "NAME", place: "DIR", str(Path.cwd()): "CWD"}
        self.names |= {name: word for name, word in known.items() if name}


def documented(owner: type) -> dict[str, tuple[str, ...] | None]:
    """Return a class's public members: the arguments of each method, None for a property."""
    found: dict[str, tuple[str, ...] | None] = {}
    for name in dir(owner):
        if name.startswith("_") or not getattr(owner, name).__doc__:
            continue
        if isinstance(inspect.getattr_static(owner, name), property):
            found[name] = None
        else:
            found[name] = arguments_of(getattr(owner, name))
    return found


def arguments_of(function: Any) -> tuple[str, ...]:
    """Return the names of a function's arguments, without `self` and `**kwargs`."""
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    )


def _named(owner: object) -> str:
    return "Artifact" if isinstance(owner, wandb.Artifact) else type(owner).__name__
