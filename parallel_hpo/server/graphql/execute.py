"""Execution of GraphQL requests: documents are parsed, limited and validated, then executed.

Each document is checked once; the cache is thread-safe. Its size is counted before validation, with its
fragments expanded: fragments that use others twice would grow exponentially.

An answer is either complete data or `errors`: wandb-core crashes on partial data, and treats errors[] as a
plain failure. W&B's operations that this server lacks get a reason.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLString,
    GraphQLUnionType,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_operation_ast,
    parse,
    validate,
)

from parallel_hpo.server.context import AppContext, Caller
from parallel_hpo.server.graphql.resolvers import RESOLVED_TYPES, RESOLVERS
from parallel_hpo.server.graphql.resolvers.context import Context, Deadline, Info, Resolver, context
from parallel_hpo.server.values import Answered, GraphQLRequest, RefusedError

_NO_REGISTRY: Final = (
    "it has no organizations, and so it has no registries (wandb-registry-…); link to a portfolio, "
    'a name in a project: run.link_artifact(artifact, "best-models")'
)
_NO_QUEUES: Final = "there are no launch queues and jobs; start agents yourself"
_NO_AUTOMATIONS: Final = "there are no automations and integrations; run.alert writes to the server's log"
_NO_USERS: Final = "there are no users, teams or keys to manage: the server has one user"

_OF_REGISTRIES: Final = (
    *("orgEntity", "deleteModel", "createProjectMembers", "deleteProjectMembers", "teamMembers"),
    *("updateProjectMember", "updateProjectTeamMember"),
)
_OF_USERS: Final = (
    *("createUser", "createInvite", "deleteInvite", "createServiceAccount", "generateApiKey", "deleteApiKey"),
)
_OF_QUEUES: Final = (
    *("upsertRunQueue", "createRunQueue", "runQueue", "runQueues", "deleteRunQueues", "deleteFromRunQueue"),
    *("pushToRunQueue", "pushToRunQueueByName", "popFromRunQueue", "ackRunQueueItem", "failRunQueueItem"),
    *("updateRunQueueItemWarning", "defaultResourceConfig", "createDefaultResourceConfig"),
    *("launchAgent", "createLaunchAgent", "updateLaunchAgent"),
)
_OF_AUTOMATIONS: Final = (
    *("integrations", "triggers", "createFilterTrigger", "updateFilterTrigger", "deleteTrigger"),
    "createGenericWebhookIntegration",
)

REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_OF_REGISTRIES, _NO_REGISTRY),
    **dict.fromkeys(_OF_USERS, _NO_USERS),
    "completeMultipartUploadArtifact": "files are sent whole",
    **dict.fromkeys(_OF_QUEUES, _NO_QUEUES),
    **dict.fromkeys(_OF_AUTOMATIONS, _NO_AUTOMATIONS),
    "createCustomChart": "custom charts are not stored; log the data, or wandb.Table",
    **dict.fromkeys(("views", "allViews", "upsertView"), "reports are not stored"),
}
"""Reasons why a GraphQL field is not supported."""


def explain(document: str) -> str | None:
    """Return the reason why a document is not supported, or None if there is no known one."""
    return next((why for field, why in REASONS.items() if re.search(rf"\b{field}\s*[({{]", document)), None)


_MAX_TOKENS: Final = 5_000
_MAX_DOCUMENTS: Final = 256

MAX_FIELDS: Final = 1000
"""Maximum number of fields in a document; wandb's clients request at most 72."""
MAX_DEPTH: Final = 30


class Documents:
    """A cache of checked documents."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._checked: OrderedDict[str, DocumentNode] = OrderedDict()
        self._lock = Lock()

    def known(self, text: str) -> DocumentNode | None:
        """Return the document if it is cached."""
        with self._lock:
            document = self._checked.get(text)
            if document is not None:
                self._checked.move_to_end(text)
            return document

    def read(self, text: str) -> DocumentNode:
        """Return the checked document; RefusedError for an invalid or unsupported one."""
        document = self.known(text) or self._check(text)
        with self._lock:
            self._checked[text] = document
            while len(self._checked) > _MAX_DOCUMENTS:
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
            # GraphQL's suggestions don't help a user who didn't write the query.
            details = " ".join(error.message.partition(" Did you mean")[0] for error in errors)
            raise RefusedError(f"not supported by the parallel_hpo sweep server: {details}")
        return document


@dataclass(frozen=True, slots=True)
class Size:
    """The number of fields, and their depth."""

    fields: int = 0
    depth: int = 0


def check_size(document: DocumentNode) -> None:
    """Raise RefusedError for a document with too many or too deep fields, or recursive fragments."""
    sizes = _Sizes(document)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            _check(sizes.of_selections(definition.selection_set))


def _check(size: Size) -> None:
    if size.depth > MAX_DEPTH:
        raise RefusedError("GraphQL: the document is nested too deeply")
    if size.fields > MAX_FIELDS:
        raise RefusedError(f"GraphQL: the document has more than {MAX_FIELDS} fields")


class _Sizes:
    """Sizes within one document; each fragment's is computed once."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._known: dict[str, Size | None] = {}
        """None: being computed."""

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
        raise AssertionError(f"{selection} is not a selection")

    def _of_fragment(self, name: str) -> Size:
        if name not in self._fragments:
            return Size()  # the validation reports it
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.of_selections(self._fragments[name].selection_set)
        size = self._known[name]
        if size is None:
            raise RefusedError(f"GraphQL: the fragment {name!r} contains itself")
        return size


QUERY_LIMIT_S: Final = 10.0
"""Timeout of a query in seconds, as others wait; with 10,000 runs, clients' queries take a fiftieth."""
_UPPER: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Executor:
    """The schema, ready to execute requests."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._schema = load_schema()
        self._documents = load_documents()

    def knows(self, request: GraphQLRequest) -> bool:
        """Return whether a request's document is cached; checking one may take longer than the answer."""
        return self._documents.known(request.query) is not None

    def only_reads(self, request: GraphQLRequest) -> bool:
        """Return whether a request is a query; RefusedError for an invalid document."""
        return _is_query(self._documents.read(request.query), request)

    def execute(self, app: AppContext, caller: Caller, request: GraphQLRequest) -> Answered:
        """Return the answer to a request; RefusedError, or a resolver's exception, otherwise."""
        document = self._documents.read(request.query)
        app = app.seen_by(caller)
        with ExitStack() as stack:
            begin = partial(stack.enter_context, app.database.read())
            deadline = self._deadline(document, request)
            asked = Context(app, caller, begin, deadline, request.variables or {})
            return Answered(self._run(document, request, asked), asked.must_last)

    def _deadline(self, document: DocumentNode, request: GraphQLRequest) -> Deadline:
        """Return a query's deadline; a mutation has none."""
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
    """Return the schema with its resolvers; it is slow to build, so all executors share it."""
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
        for attribute in ("parse_value", "coerce_input_value"):  # the second one since graphql-core 3.3
            setattr(schema.type_map[name], attribute, check)
    return schema


@cache
def load_documents() -> Documents:
    """Return the cache of documents, shared by all executors."""
    return Documents(load_schema())


def _int64(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise GraphQLError(f"Int64 cannot represent {str(value)[:40]!r}")
    return value


def _in_time(resolver: Resolver) -> Resolver:
    """Return the resolver with a check of the query's deadline."""

    def resolve(source: Any, info: Info, **arguments: Any) -> Any:
        context(info).deadline.check()
        return resolver(source, info, **arguments)

    return resolve


def _attribute(source: Any, info: Info, **_arguments: Any) -> Any:
    """Resolve a field without a resolver: an entry of a dict, or a record's snake_case attribute."""
    context(info).deadline.check()
    if isinstance(source, dict):
        return source[info.field_name]
    return getattr(source, _snake_case(info.field_name))


@lru_cache(1024)
def _snake_case(name: str) -> str:
    return _UPPER.sub(lambda match: "_" + match.group(1), name).lower()


def _cause(result: ExecutionResult) -> Exception:
    """Return the exception of a failed request: a resolver's own, or GraphQL's error about the variables."""
    assert result.errors is not None
    original = result.errors[0].original_error
    if isinstance(original, Exception) and not isinstance(original, GraphQLError):
        return original
    return RefusedError(f"GraphQL: {result.errors[0].message}")
