"""How each GraphQL field gets its value: one table of functions by type and field name.

A field that is not in the table is the snake_case attribute of its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from parallel_hpo.server.resolvers import agents, histories, projects, runs, sweeps, viewer
from parallel_hpo.server.resolvers.context import Resolver

RESOLVERS: Final[Mapping[str, Mapping[str, Resolver]]] = {
    "Query": viewer.QUERY | projects.QUERY,
    "Mutation": sweeps.MUTATION | agents.MUTATION | runs.MUTATION,
    "Project": projects.PROJECT,
    "Sweep": sweeps.SWEEP,
    "Agent": agents.AGENT,
    "Run": runs.RUN | histories.RUN,
}
