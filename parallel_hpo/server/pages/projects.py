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


class SweepCards:
    """Sweeps with their progress and their best values; keeps the curves of those that don't change."""

    def __init__(self) -> None:
        self._curves: dict[str, tuple[object, list[tuple[int, float]]]] = {}

    def of(self, transaction: Transaction, project: Project | None) -> list[dict[str, Any]]:
        """Return the newest sweeps of a project, or (None) of all."""
        found = sweeps.of_project(transaction, None if project is None else project.id, 0, _MAX_SWEEPS)
        totals: dict[str, list[StateTotals]] = {sweep.id: [] for sweep in found}
        for each in sweeps.totals(transaction, list(totals)):
            totals[each.sweep].append(each)
        cards = []
        for sweep in found:
            card = _card(head_of(sweep), totals[sweep.id])
            curve = self._curve(transaction, sweep, card)
            cards.append(card | {"curve": curve, "best": curve[-1][1] if curve else None})
        return cards

    def _curve(self, transaction: Transaction, sweep: Sweep, card: dict[str, Any]) -> list[tuple[int, float]]:
        """Return the improvements of a sweep's best value, with their places among its finished runs."""
        metric = card["metric"]
        if metric is None:
            return []
        state = (metric["goal"], sweep.revision, sum(card["runs"].values()))
        if self._curves.get(sweep.id, (None, []))[0] != state:
            maximize = metric["goal"] == "maximize"
            self._curves[sweep.id] = state, sweeps.improvements(transaction, sweep.id, maximize=maximize)
        return self._curves[sweep.id][1]


def _card(head: dict[str, Any], totals: Sequence[StateTotals]) -> dict[str, Any]:
    ended = [each for each in totals if each.state not in OPEN and each.begun_at]
    return head | {
        "runs": {each.state: each.number for each in totals},
        "begun": min((each.begun_at for each in totals if each.begun_at is not None), default=None),
        "heard": max((each.heard_at for each in totals), default=None),
        "mean": sum(each.spent_s or 0.0 for each in ended) / max(1, sum(each.number for each in ended)),
    }
