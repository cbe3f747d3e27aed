"""The list of projects, and a project's list of sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.sweep_types import Goal
from parallel_hpo.server import engines
from parallel_hpo.server.pages.sweep_data import head_of
from parallel_hpo.server.store import projects, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.values import RefusedError

_MAX_PROJECTS: Final = 500
_MAX_SWEEPS: Final = 500


@dataclass(frozen=True, slots=True)
class ProjectCard:
    """A project's row in the list of projects."""

    entity: str
    name: str
    sweeps: int
    runs: int


def all_of(transaction: Transaction) -> list[ProjectCard]:
    """Return the projects, newest first."""
    return [
        ProjectCard(
            project.entity,
            project.name,
            sweeps.count_in_project(transaction, project.id),
            projects.run_count(transaction, project.id),
        )
        for project in projects.newest(transaction, _MAX_PROJECTS)
    ]


def project_at(transaction: Transaction, entity: str, name: str) -> Project:
    """Return the project; RefusedError (404) if it doesn't exist."""
    project = projects.find(transaction, entity, name)
    if project is None:
        raise RefusedError(f"project {entity}/{name} doesn't exist", status=404)
    return project


def sweeps_of(transaction: Transaction, project: Project) -> list[dict[str, Any]]:
    """Return a project's sweeps, newest first, each with its number of runs by state and its best value."""
    found = sweeps.of_project(transaction, project.id, 0, _MAX_SWEEPS)
    return [_card(transaction, sweep) for sweep in found]


def _card(transaction: Transaction, sweep: Sweep) -> dict[str, Any]:
    wanted = engines.metric_of(sweep.config)
    best = None
    if wanted is not None:
        best = sweeps.best_value(transaction, sweep.id, maximize=wanted.goal is Goal.MAXIMIZE)
    return head_of(sweep) | {"runs": sweeps.counts(transaction, sweep.id), "best": best}
