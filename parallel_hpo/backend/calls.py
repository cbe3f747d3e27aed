"""What is asked of a sweep server through the wandb client: errands, each in a child of its own.

`wandb.Api()` and `wandb.sweep()` start a wandb-core in the process that calls them,
which would then live in the user's own process. Only functions in here import wandb.
"""

from __future__ import annotations

import os
from typing import Any

import yaml

from parallel_hpo.backend.base import OpenedSweep, SweepOrder
from parallel_hpo.words import SweepId, SweepPath

DEFAULT_PROJECT = "uncategorized"
"""Where W&B puts a sweep without a project."""

OVER = {
    "FINISHED": "the sweep is finished",
    "CANCELED": "the sweep was cancelled",
    "CANCELLED": "the sweep was cancelled",
}
"""States in which a sweep gives no more runs; a paused one may go on."""


def open_sweep(order: SweepOrder) -> OpenedSweep:
    """Create the sweep by `wandb.sweep`, or find the one to be joined, and return where it is."""
    import wandb

    entity, project, sweep_id = order.entity, order.project, order.sweep_id
    if order.configuration is not None and sweep_id is None:
        sweep_id = wandb.sweep(dict(order.configuration), project=project, entity=entity)
        project = project or order.configuration.get("project")
        entity = entity or order.configuration.get("entity")
    api: Any = wandb.Api()
    *given, name = str(sweep_id).split("/")
    if given:
        project = given[-1]
        entity = given[0] if len(given) > 1 else entity
    entity = entity or os.environ.get("WANDB_ENTITY") or str(api.default_entity)
    project = project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    sweep = api.sweep(f"{entity}/{project}/{name}")
    return OpenedSweep(SweepPath(entity, project, SweepId(name)), sweep.url, _plain(sweep.config))


def why_over(path: SweepPath) -> str:
    """Return why the sweep gives no more runs; '' while it goes on."""
    import wandb

    api: Any = wandb.Api()
    return OVER.get(api.sweep(str(path)).state, "")


def finish_sweep(path: SweepPath) -> None:
    """Set the sweep to finished, as `wandb sweep --stop` does."""
    from wandb.cli import cli

    cli.sweep.main(["--stop", str(path)], standalone_mode=False)


def _plain(configuration: Any) -> dict[str, Any]:
    """Return a configuration as plain values; older clients give it as YAML."""
    if isinstance(configuration, str):
        configuration = yaml.safe_load(configuration)
    return dict(configuration or {})
