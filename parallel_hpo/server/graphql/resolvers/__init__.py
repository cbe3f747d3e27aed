"""The resolver of each GraphQL field, by type and field name.

A field that is not in the table is the snake_case attribute of its record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from parallel_hpo.server.graphql.resolvers import artifacts, collections, files, projects, runs, sweeps
from parallel_hpo.server.graphql.resolvers.context import Resolver
from parallel_hpo.server.store.records import Run

RESOLVERS: Final[Mapping[str, Mapping[str, Resolver]]] = {
    "Query": projects.QUERY | artifacts.QUERY | collections.QUERY,
    "Mutation": sweeps.MUTATION
    | runs.MUTATION
    | projects.MUTATION
    | files.MUTATION
    | artifacts.MUTATION
    | collections.MUTATION,
    "Project": projects.PROJECT | collections.PROJECT,
    "Sweep": sweeps.SWEEP,
    "Agent": sweeps.AGENT,
    "Run": runs.RUN | files.RUN | artifacts.RUN,
    "File": files.FILE,
    "Artifact": artifacts.ARTIFACT_FIELDS,
    "ArtifactEdge": collections.EDGE,
    "ArtifactAlias": collections.ALIAS,
    "ArtifactType": collections.TYPE,
    "ArtifactSequence": collections.SEQUENCE,
    "ArtifactPortfolio": collections.PORTFOLIO,
    "ArtifactCollectionMembership": artifacts.MEMBERSHIP,
}
RESOLVED_TYPES: Final[Mapping[str, Callable[..., str]]] = {
    "ArtifactCollection": lambda value, *_: "ArtifactPortfolio" if value.is_portfolio else "ArtifactSequence",
    "ArtifactCreator": lambda value, *_: "Run" if isinstance(value, Run) else "User",
}
"""The concrete type of a value, for each interface and union."""
