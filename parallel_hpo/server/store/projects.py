"""Projects: each is created with its first sweep or run, under any entity and project name."""

from __future__ import annotations

from sqlalchemy import Connection, select

from parallel_hpo.server.store.records import Project
from parallel_hpo.server.store.tables import count, insert_one, projects, record, runs, seen


def find(connection: Connection, entity: str, name: str) -> Project | None:
    """Return the project, or None."""
    query = select(projects).where(projects.c.entity == entity, projects.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else record(Project, row)


def ensure(connection: Connection, entity: str, name: str, now: float) -> Project:
    """Return the project, created if needed."""
    found = find(connection, entity, name)
    if found is not None:
        return found
    values = {"entity": entity, "name": name, "created_at": now}
    project_id = insert_one(connection, projects, values)
    return Project(id=project_id, entity=entity, name=name, created_at=now)


def of_entity(connection: Connection, entity: str, begin: int, number: int) -> list[Project]:
    """Return `number` of an entity's projects from offset `begin`, newest first."""
    query = select(projects).where(projects.c.entity == entity).order_by(projects.c.id.desc())
    return [record(Project, row) for row in connection.execute(query.offset(begin).limit(number))]


def newest(connection: Connection, number: int) -> list[Project]:
    """Return at most `number` projects of all entities, newest first."""
    query = select(projects).order_by(projects.c.id.desc()).limit(number)
    return [record(Project, row) for row in connection.execute(query)]


def run_count(connection: Connection, project_id: int) -> int:
    """Count a project's runs."""
    return count(connection, runs, (runs.c.project_id == project_id) & seen(connection))
