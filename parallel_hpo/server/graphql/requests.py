"""Requests in GraphQL and answers to them, for those who needn't know more of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parallel_hpo.server.refusals import RefusedError


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A request as it stands in the body."""

    query: str
    variables: dict[str, Any] | None
    operation_name: str | None


def read_request(body: Any) -> GraphQLRequest:
    """Check a request's body; RefusedError (400) says what is wrong with it."""
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        raise RefusedError("the body must be a JSON object with a query", status=400)
    variables = body.get("variables")
    if variables is not None and not isinstance(variables, dict):
        raise RefusedError("variables must be an object", status=400)
    # wandb client: requests of the Public API carry an empty operationName.
    name = body.get("operationName") or None
    if name is not None and not isinstance(name, str):
        raise RefusedError("operationName must be a string", status=400)
    return GraphQLRequest(body["query"], variables, name)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request is answered."""

    data: dict[str, Any]
    must_last: bool
    """Whether what it tells must be on the disk first."""
