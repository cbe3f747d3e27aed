"""The list of projects, and lists of sweeps with their progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.pages.sweep_data import head_of
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.store import projects, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.sweeps import StateTotals
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


def sweeps_of(transaction: Transaction, project: Project | None) -> list[dict[str, Any]]:
    """Return the newest sweeps of a project, or (None) of all, each with its progress and its best value."""
    found = sweeps.of_project(transaction, None if project is None else project.id, 0, _MAX_SWEEPS)
    by_sweep: dict[str, list[StateTotals]] = {sweep.id: [] for sweep in found}
    for each in sweeps.totals(transaction, list(by_sweep)):
        by_sweep[each.sweep].append(each)
    return [_card(sweep, by_sweep[sweep.id]) for sweep in found]


def _card(sweep: Sweep, totals: Sequence[StateTotals]) -> dict[str, Any]:
    head = head_of(sweep)
    metric, ended = head["metric"], [each for each in totals if each.state not in OPEN and each.begun_at]
    values = [value for each in totals for value in (each.least, each.most) if value is not None]
    choose = max if metric is not None and metric["goal"] == "maximize" else min
    return head | {
        "runs": {each.state: each.number for each in totals},
        "best": choose(values) if values and metric is not None else None,
        "begun": min((each.begun_at for each in totals if each.begun_at is not None), default=None),
        "heard": max((each.heard_at for each in totals), default=None),
        "mean": sum(each.spent_s or 0.0 for each in ended) / max(1, sum(each.number for each in ended)),
    }
