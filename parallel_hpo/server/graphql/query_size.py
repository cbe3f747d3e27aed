"""How much a GraphQL document asks for once its fragments are put in their places. Pure.

A fragment that names another one twice, which names a third one twice, and so on, doubles
what is asked for with each line: it is counted before anything walks through it, the
validation too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
)

from parallel_hpo.server.refusals import RefusedError

MAX_FIELDS: Final = 1000
"""wandb's clients ask for at most 72 in one request."""
MAX_DEPTH: Final = 30


@dataclass(frozen=True, slots=True)
class Size:
    """The number of fields, and how deep they lie in each other."""

    fields: int = 0
    depth: int = 0


def check_size(document: DocumentNode) -> None:
    """Refuse a document that asks for too many fields, too deep ones, or has fragments without an end."""
    sizes = _Sizes(document)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            _check(sizes.of_selections(definition.selection_set))


def _check(size: Size) -> None:
    if size.depth > MAX_DEPTH:
        raise RefusedError("GraphQL: the document is nested too deeply")
    if size.fields > MAX_FIELDS:
        raise RefusedError(f"GraphQL: the document asks for more than {MAX_FIELDS} fields")


class _Sizes:
    """Sizes within one document, each fragment's reckoned once."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._known: dict[str, Size | None] = {}
        """None: it is being reckoned just now."""

    def of_selections(self, selections: SelectionSetNode | None) -> Size:
        sizes = [self._of(selection) for selection in selections.selections] if selections else []
        return Size(sum(size.fields for size in sizes), max((size.depth for size in sizes), default=0))

    def _of(self, selection: SelectionNode) -> Size:
        match selection:
            case FieldNode(selection_set=inner):
                size = self.of_selections(inner)
                return Size(size.fields + 1, size.depth + 1)
            case InlineFragmentNode(selection_set=inner):
                return self.of_selections(inner)
            case FragmentSpreadNode(name=name):
                return self._of_fragment(name.value)
        raise AssertionError(f"{selection} is no selection")

    def _of_fragment(self, name: str) -> Size:
        if name not in self._fragments:
            return Size()  # the validation will name it
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.of_selections(self._fragments[name].selection_set)
        size = self._known[name]
        if size is None:
            raise RefusedError(f"GraphQL: the fragment {name!r} contains itself")
        return size
