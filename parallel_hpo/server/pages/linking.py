"""Joins scripts and styles of several files into one of each: for a report, and to ask a server once only.

Each module becomes a function that returns what it exports. That is enough where modules import each other in
no circle, and by forms that are known here; any other is an error, and a test tries all that there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

_IMPORT: Final = re.compile(
    r'^import (?:\{(?P<names>[^}]*)\}|\* as (?P<whole>\w+)|(?P<default>\w+)) from "(?P<path>[^"]+)";$',
    re.MULTILINE,
)
_EXPORT: Final = re.compile(r"^export ((?:async )?(?:function|class|const) )(\w+)", re.MULTILINE)
_EXPORT_LIST: Final = re.compile(r"export\s*\{([^}]*)\};?\s*$")
_UNKNOWN: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_STYLE: Final = re.compile(r'@import url\("([^"]+)"\);')
_WORDS_THAT_END_A_SCRIPT: Final = re.compile(r"</script|<!--", re.IGNORECASE)


class UnlinkableError(Exception):
    """A script that can't be joined with others; its words say which one, and why."""


@dataclass
class _Linker:
    folder: Path
    linked: dict[str, str] = field(default_factory=dict)
    """Scripts that are functions by now, by their file's name, in the order in which they must run."""
    begun: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Link a script behind those that it imports."""
        if name in self.linked:
            return
        if name in self.begun:
            raise UnlinkableError(f"{name} is reached by its own imports: {' → '.join([*self.begun, name])}")
        self.begun.append(name)
        source = (self.folder / name).read_text(encoding="utf-8")
        for found in _IMPORT.finditer(source):
            self.add(_beside(name, found["path"]))
        self.linked[name] = _as_function(name, source)
        self.begun.pop()


def script(folder: Path, entry: str) -> str:
    """Return one script of all that a module leads to; UnlinkableError where that can't be done."""
    linker = _Linker(folder)
    linker.add(entry)
    joined = "\n".join(linker.linked.values())
    if _WORDS_THAT_END_A_SCRIPT.search(joined):
        raise UnlinkableError(f"something that {entry} leads to holds words that would end a script in HTML")
    return joined


def style(folder: Path, *names: str) -> str:
    """Return one style sheet of several, with those that they import."""
    return "\n".join(_with_imports(folder, name) for name in names)


def _with_imports(folder: Path, name: str) -> str:
    source = (folder / name).read_text(encoding="utf-8")
    return _STYLE.sub(lambda found: _with_imports(folder, _beside(name, found[1])), source)


def _beside(name: str, path: str) -> str:
    """Return the file that a path in another file means."""
    parts: list[str] = []
    for part in (PurePosixPath(name).parent / path).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _as_function(name: str, source: str) -> str:
    """Return a constant that holds what the module exports."""
    exported = dict(_exports_of(source))
    body = _EXPORT_LIST.sub("", _EXPORT.sub(r"\1\2", source))
    body = _IMPORT.sub(lambda found: _as_constant(name, found), body)
    if unknown := _UNKNOWN.search(body):
        raise UnlinkableError(f"{name}: this form is not known: {unknown[0]}")
    given = ", ".join(f"{as_name}: {local}" for as_name, local in exported.items())
    return f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();"


def _exports_of(source: str) -> Iterator[tuple[str, str]]:
    """Yield the names that a module exports, with its own names for them."""
    for found in _EXPORT.finditer(source):
        yield found[2], found[2]
    if listed := _EXPORT_LIST.search(source):
        for item in listed[1].split(","):
            local, _, as_name = item.strip().partition(" as ")
            yield (as_name or local), local


def _as_constant(name: str, found: re.Match[str]) -> str:
    source = _variable(_beside(name, found["path"]))
    if found["whole"]:
        return f"const {found['whole']} = {source};"
    if found["default"]:
        return f"const {found['default']} = {source}.default;"
    names = re.sub(r"(\w+) as (\w+)", r"\1: \2", found["names"])
    return f"const {{{names}}} = {source};"


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name)
