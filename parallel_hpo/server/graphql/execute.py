"""Executes GraphQL requests against `schema/`.

Every answer is either complete data or `errors`: wandb-core crashes on half an
answer, and treats errors[] as a plain failure.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Final

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    GraphQLUnionType,
    OperationType,
    build_schema,
    execute_sync,
    get_operation_ast,
)

from parallel_hpo.server.graphql.documents import Documents
from parallel_hpo.server.graphql.requests import Answered, GraphQLRequest
from parallel_hpo.server.graphql.resolvers import RESOLVED_TYPES, RESOLVERS
from parallel_hpo.server.graphql.resolvers.context import Context, Deadline, Info, Resolver, context
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.world import Caller, World

QUERY_LIMIT_S: Final = 10.0
"""How long a query may take: others wait for it. What has to be asked for takes a fiftieth of that with
10,000 runs."""
_UPPER: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Executor:
    """The schema, ready to execute requests."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._schema = load_schema()
        self._documents = load_documents()

    def knows(self, request: GraphQLRequest) -> bool:
        """Whether a request's document was checked before: to check it may take longer than to answer."""
        return self._documents.known(request.query) is not None

    def only_reads(self, request: GraphQLRequest) -> bool:
        """Whether a request is a query; RefusedError for a document that is none of this server's."""
        return _is_query(self._documents.read(request.query), request)

    def execute(self, world: World, caller: Caller, request: GraphQLRequest) -> Answered:
        """Return the answer to a request; RefusedError, or what a resolver raised, otherwise."""
        document = self._documents.read(request.query)
        world = world.seen_by(caller)
        with ExitStack() as stack:
            begin = partial(stack.enter_context, world.database.read())
            deadline = self._deadline(document, request)
            asked = Context(world, caller, begin, deadline, request.variables or {})
            return Answered(self._run(document, request, asked), asked.must_last)

    def _deadline(self, document: DocumentNode, request: GraphQLRequest) -> Deadline:
        """Return until when the answer must be found; a mutation's is told, however long it took."""
        limit_s = QUERY_LIMIT_S if _is_query(document, request) else math.inf
        return Deadline(self._clock, self._clock() + limit_s)

    def _run(self, document: DocumentNode, request: GraphQLRequest, context: Context) -> dict[str, Any]:
        result = execute_sync(
            self._schema,
            document,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operation_name,
            field_resolver=_attribute,
        )
        if result.errors:
            raise _cause(result)
        return result.data or {}


def _is_query(document: DocumentNode, request: GraphQLRequest) -> bool:
    operation = get_operation_ast(document, request.operation_name)
    return operation is not None and operation.operation is OperationType.QUERY


@cache
def load_schema() -> GraphQLSchema:
    """Return the schema with its resolvers; it takes a while, and is the same for all executors."""
    parts = sorted((Path(__file__).parent / "schema").glob("*.graphql"))
    text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    schema = build_schema(text, assume_valid=True, no_location=True)
    for type_name, resolve_type in RESOLVED_TYPES.items():
        abstract = schema.type_map[type_name]
        assert isinstance(abstract, GraphQLInterfaceType | GraphQLUnionType)
        abstract.resolve_type = resolve_type
    for type_name, resolvers in RESOLVERS.items():
        kind = schema.type_map[type_name]
        assert isinstance(kind, GraphQLObjectType)
        for field_name, resolver in resolvers.items():
            kind.fields[field_name].resolve = _in_time(resolver)
    for name, check in (("JSONString", GraphQLString.parse_value), ("Int64", _int64)):
        for attribute in ("parse_value", "coerce_input_value"):  # the second since graphql-core 3.3
            setattr(schema.type_map[name], attribute, check)
    return schema


@cache
def load_documents() -> Documents:
    """Return the documents that all of this process's executors know: they have the same schema."""
    return Documents(load_schema())


def _int64(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise GraphQLError(f"Int64 cannot represent {str(value)[:40]!r}")
    return value


def _in_time(resolver: Resolver) -> Resolver:
    """Return the resolver, which refuses from a query's time limit on."""

    def resolve(source: Any, info: Info, **arguments: Any) -> Any:
        context(info).deadline.check()
        return resolver(source, info, **arguments)

    return resolve


def _attribute(source: Any, info: Info, **_arguments: Any) -> Any:
    """Resolve a field that is not in the table: an entry of a dict, or a record's snake_case attribute."""
    context(info).deadline.check()
    if isinstance(source, dict):
        return source[info.field_name]
    return getattr(source, _snake_case(info.field_name))


@lru_cache(1024)
def _snake_case(name: str) -> str:
    return _UPPER.sub(lambda match: "_" + match.group(1), name).lower()


def _cause(result: ExecutionResult) -> Exception:
    """Return what went wrong: what a resolver raised, or GraphQL's own complaint about the variables."""
    assert result.errors is not None
    original = result.errors[0].original_error
    if isinstance(original, Exception) and not isinstance(original, GraphQLError):
        return original
    return RefusedError(f"GraphQL: {result.errors[0].message}")
