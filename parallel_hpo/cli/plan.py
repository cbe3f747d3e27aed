"""`run --dry-run`: what would happen, without starting anything."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.config.section import BackendChoice, HpoSection
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.engine import Engine, make_engine
from parallel_hpo.session.planning import SweepPlan, plan_sweep

_SUGGESTIONS: Final = 3
"""Enough to see that the space is the one meant."""


def show_plan(section: HpoSection, *, as_json: bool) -> None:
    """Print the plan: on stderr for people, or on stdout as JSON."""
    plan = plan_sweep(section, os.environ)
    engine = _engine(section)
    suggestions = [] if engine is None else _first_suggestions(engine, plan.count)
    if as_json:
        content = {**dataclasses.asdict(plan), "suggestions": suggestions}
        print_for_machines(json.dumps(content, indent=2, default=str))
    else:
        drawn_by_us = section.seed is not None and plan.backend == BackendChoice.LOCAL
        exact = engine is not None and (engine.size is not None or drawn_by_us)
        print_for_people("\n".join([*_lines(section, plan), *_shown(suggestions, exact=exact)]))


def _engine(section: HpoSection) -> Engine | None:
    """Return an engine as the embedded server would make one; None: the sweep is there already."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return make_engine(sweep, seed=section.seed or 0)


def _first_suggestions(engine: Engine, count: int | None) -> list[dict[str, Any]]:
    """Return parameters as the embedded server might issue them first."""
    asked = (engine.ask(index) for index in range(min(count or _SUGGESTIONS, _SUGGESTIONS)))
    return [parameters for parameters in asked if parameters is not None]


def _lines(section: HpoSection, plan: SweepPlan) -> Iterator[str]:
    yield f"backend: {plan.backend} ({plan.reason})"
    yield f"runs: {plan.count or 'no limit'}"
    if section.deadline is not None:
        yield f"deadline: {section.deadline}"
    shares = f", shares {', '.join(map(str, plan.shares))}" if plan.shares else ""
    devices = f"devices {' / '.join(plan.devices)}" if plan.devices else "cpu"
    yield f"workers: {plan.workers} on {devices}{shares}"
    yield from (f"warning: {note.text}" for note in plan.notes)
    yield f"folder: {plan.folder}"
    yield "environment of a worker:"
    for name, value in sorted(plan.environment.items()):
        yield f"  {name}={value}"


def _shown(suggestions: list[dict[str, Any]], *, exact: bool) -> Iterator[str]:
    """Yield the suggestions; `exact`: they are those that the sweep will draw."""
    if suggestions:
        yield "first suggestions:" if exact else "suggestions, for example (each sweep draws its own):"
    for parameters in suggestions:
        yield f"  {json.dumps(parameters)}"
