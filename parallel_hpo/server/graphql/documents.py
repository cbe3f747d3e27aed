"""GraphQL documents, parsed and checked once per text; any thread may ask for one.

How much one asks for is known once its fragments are put in their places. A fragment that names
another one twice, which names a third one twice, and so on, doubles what is asked for with each
line: it is counted before anything walks through it, the validation too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    parse,
    validate,
)

from parallel_hpo.server.graphql.unsupported import explain
from parallel_hpo.server.refusals import RefusedError

_MAX_TOKENS: Final = 5_000
_KEPT: Final = 256

MAX_FIELDS: Final = 1000
"""wandb's clients ask for at most 72 in one request."""
MAX_DEPTH: Final = 30


class Documents:
    """The documents that were asked for last."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._checked: OrderedDict[str, DocumentNode] = OrderedDict()
        self._lock = Lock()

    def known(self, text: str) -> DocumentNode | None:
        """Return the document if it was checked before."""
        with self._lock:
            document = self._checked.get(text)
            if document is not None:
                self._checked.move_to_end(text)
            return document

    def read(self, text: str) -> DocumentNode:
        """Return the document; RefusedError where it is none, or asks for what there is not here."""
        document = self.known(text) or self._check(text)
        with self._lock:
            self._checked[text] = document
            while len(self._checked) > _KEPT:
                self._checked.popitem(last=False)
        return document

    def _check(self, text: str) -> DocumentNode:
        try:
            document = parse(text, max_tokens=_MAX_TOKENS)
            check_size(document)
            errors = validate(self._schema, document, max_errors=5)
        except GraphQLError as error:
            raise RefusedError(f"GraphQL: {error.message}") from None
        except RecursionError:
            raise RefusedError("GraphQL: the document is nested too deeply") from None
        if errors:
            why = explain(text)
            if why is not None:
                raise RefusedError(f"not supported by the parallel_hpo sweep server: {why}")
            # GraphQL's suggestions are of no use to someone who didn't write the query.
            details = " ".join(error.message.partition(" Did you mean")[0] for error in errors)
            raise RefusedError(f"not supported by the parallel_hpo sweep server: {details}")
        return document


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
