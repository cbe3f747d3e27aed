"""Clients' requests on projects: to make one."""

from __future__ import annotations

from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import projects
from parallel_hpo.server.store.records import Project
from parallel_hpo.server.world import World

_NAME_LENGTH = 128  # wandb client: no longer ones


def create(world: World, entity: str, name: str) -> Project:
    """Return the project, made now where it was not there; RefusedError for a name that is too long."""
    if not name or len(name) > _NAME_LENGTH:
        raise RefusedError(f"project name: 1 to {_NAME_LENGTH} characters")
    with world.database.write() as transaction:
        return projects.ensure(transaction, entity, name, world.clock())
