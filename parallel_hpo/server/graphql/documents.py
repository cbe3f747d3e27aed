"""GraphQL documents, parsed and checked once per text; any thread may ask for one."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

from graphql import DocumentNode, GraphQLError, GraphQLSchema, parse, validate

from parallel_hpo.server.graphql.query_size import check_size
from parallel_hpo.server.graphql.unsupported import explain
from parallel_hpo.server.refusals import RefusedError

_MAX_TOKENS: Final = 5_000
_KEPT: Final = 256


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
