"""Which GraphQL a client of wandb's carries: understood by this server, refused, or news to everybody.

The client is read, not run: the strings of its Python files, and those in wandb-core. `looked_at.json` has
what those releases carry that somebody has looked at. `scripts/check-client` says what another one brings.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from graphql import GraphQLError, NoUnusedFragmentsRule, parse, specified_rules, validate
from graphql.utilities import strip_ignored_characters

from parallel_hpo.server.graphql.execute import explain, load_schema

LOOKED_AT: Final = Path(__file__).with_name("looked_at.json")
_BEGINS: Final = re.compile(r"(?:\s|#.*\n)*(query|mutation|fragment) (\w+)\s*(?:[({]|on )")
_IN_CORE: Final = re.compile(r"(?:query|mutation) (\w+) ?[({].*?\n}\n(?:\s*fragment .*?\n}\n)*", re.DOTALL)
_RULES: Final = [rule for rule in specified_rules if rule is not NoUnusedFragmentsRule]

UNDERSTOOD: Final = "understood"
REFUSED: Final = "refused in words"


@dataclass(frozen=True)
class Document:
    """A GraphQL document of the client's: an operation or a fragment, by its name."""

    name: str
    place: str
    """The client's file that has it."""
    text: str
    """As it is written: in place of what the client fills in stand the names of that."""

    @property
    def digest(self) -> str:
        """Return what changes with the document, and not with its layout."""
        try:
            plain = strip_ignored_characters(self.text)
        except GraphQLError:
            plain = " ".join(self.text.split())
        return hashlib.sha256(plain.encode()).hexdigest()[:12]

    @property
    def verdict(self) -> str:
        """Return what this server makes of it: UNDERSTOOD, REFUSED, or what is wrong."""
        try:
            errors = validate(load_schema(), parse(self.text), _RULES, max_errors=1)
        except GraphQLError:
            return "put together from pieces, which only a person can judge"
        if not errors:
            return UNDERSTOOD
        return REFUSED if explain(self.text) else errors[0].message


@dataclass(frozen=True)
class Move:
    """What is not as it was when somebody looked; `verdict` is that of the document as it is now."""

    document: Document
    is_new: bool
    verdict: str

    @property
    def is_news(self) -> bool:
        """Whether somebody has to look."""
        return self.verdict not in (UNDERSTOOD, REFUSED)

    def __str__(self) -> str:
        what = "new" if self.is_new else "changed"
        return f"{what}: {self.document.name} ({self.document.place}): {self.verdict}"


def client_folder() -> Path:
    """Return where the installed client is."""
    spec = importlib.util.find_spec("wandb")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def carried(folder: Path) -> list[Document]:
    """Return all documents of the client in a folder."""
    files = (path for path in sorted(folder.rglob("*.py")) if "vendor" not in path.parts)
    found = [document for path in files for document in _in_python(path, folder)]
    core = folder / "bin" / "wandb-core"
    if core.exists():
        found += in_core(core.read_bytes().decode("latin-1"))
    return found


def in_core(text: str) -> list[Document]:
    """Return the documents in wandb-core's text, each with its fragments."""
    return [Document(match[1], "wandb-core", match[0]) for match in _IN_CORE.finditer(text)]


def _in_python(path: Path, folder: Path) -> Iterator[Document]:
    source = path.read_text(encoding="utf-8")
    if not re.search(r"\b(query|mutation|fragment) \w", source):
        return
    for text in _strings(ast.parse(source)):
        begins = _BEGINS.match(text)
        if begins:
            yield Document(begins[2], str(path.relative_to(folder)), text)


def _strings(tree: ast.AST) -> Iterator[str]:
    """Yield what strings say, f-strings as one; docstrings do no harm."""
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.JoinedStr):
            yield "".join(_piece(value) for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            todo.extend(ast.iter_child_nodes(node))


def _piece(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)


def moves(documents: Iterable[Document], kept: Mapping[str, str]) -> list[Move]:
    """Return what is new or changed since it was kept: the digests, by name."""
    return [
        Move(document, document.name not in kept, document.verdict)
        for document in documents
        if document.digest not in kept.get(document.name, "")
    ]


def with_these(documents: Iterable[Document], kept: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept when somebody has looked at these too."""
    digests = {name: set(kept[name].split()) for name in kept}
    for document in documents:
        digests.setdefault(document.name, set()).add(document.digest)
    return {name: " ".join(sorted(digests[name])) for name in sorted(digests)}


@dataclass(frozen=True)
class LookedAt:
    """What somebody has looked at: releases of the client, and all that they carry."""

    releases: tuple[str, ...]
    documents: Mapping[str, str]

    @classmethod
    def read(cls) -> LookedAt:
        """Read it."""
        known = json.loads(LOOKED_AT.read_text())
        return cls(tuple(known["releases"]), known["documents"])

    def add(self, release: str, documents: Iterable[Document]) -> None:
        """Keep that somebody has looked at a release."""
        releases = sorted({*self.releases, release}, key=lambda each: [*map(int, each.split("."))])
        known = {"releases": releases, "documents": with_these(documents, self.documents)}
        LOOKED_AT.write_text(json.dumps(known, indent=1) + "\n")


def main() -> int:
    """Say what the installed client brings; exit code 1 where somebody has to look."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="it was looked at: keep it as known")
    options = parser.parse_args()
    found, known, release = carried(client_folder()), LookedAt.read(), version("wandb")
    if options.keep:
        known.add(release, found)
        return 0
    moved = sorted(moves(found, known.documents), key=lambda move: not move.is_news)
    print(f"wandb {release} carries {len(found)} documents; looked at were {', '.join(known.releases)}")
    print(*(f"  {move}" for move in moved), *([] if moved else ["  nothing is new"]), sep="\n")
    return int(any(move.is_news for move in moved))


if __name__ == "__main__":
    sys.exit(main())
