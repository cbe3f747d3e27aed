"""Creates a sweep on a server of ours, or finds the one to be joined, as wandb's client would.

`wandb.sweep()` and `wandb.Api()` come to the same, but take a process with a wandb-core of its own: a tenth
of a second at each start of a sweep. What they add to a configuration, and where they find an entity's and
a project's name, is as there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

from parallel_hpo.backend.base import OpenedSweep, SweepOrder
from parallel_hpo.backend.calls import DEFAULT_PROJECT, FINISHED
from parallel_hpo.backend.client_settings import client_setting
from parallel_hpo.backend.door import Door
from parallel_hpo.errors import BackendError
from parallel_hpo.words import SweepId, SweepPath

_SWEEP: Final = "name state config project { name entity { name } }"
CREATE: Final = f"""mutation CreateSweep($config: String!, $project: String, $entity: String) {{
  upsertSweep(input: {{config: $config, projectName: $project, entityName: $entity}}) {{
    sweep {{ {_SWEEP} }}
  }}
}}"""
_FIND: Final = f"""query FindSweep($name: String!, $project: String!, $entity: String) {{
  project(name: $project, entityName: $entity) {{ sweep(sweepName: $name) {{ {_SWEEP} }} }}
}}"""
_REOPEN: Final = f"""mutation ReopenSweep($id: ID!) {{
  upsertSweep(input: {{id: $id, state: "RUNNING"}}) {{ sweep {{ {_SWEEP} }} }}
}}"""


def open_sweep(door: Door, order: SweepOrder, environment: Mapping[str, str]) -> OpenedSweep:
    """Create or find a sweep; `environment` is a client's. BackendError for one that is not there."""
    found = (_create if order.sweep_id is None else _find)(door, order, environment)
    there = found["project"]
    path = SweepPath(there["entity"]["name"], there["name"], SweepId(found["name"]))
    url = f"{door.url.rstrip('/')}/{path.entity}/{path.project}/sweeps/{path.sweep_id}"
    return OpenedSweep(path, url, dict(yaml.safe_load(found["config"]) or {}), found["state"])


def _create(door: Door, order: SweepOrder, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    variables = {
        "config": yaml.dump(_with_distributions(order.configuration or {}), Dumper=_Dumper),
        "entity": entity or client_setting("entity", environment).value,
        "project": project or client_setting("project", environment).value,
    }
    return door.ask_graphql(CREATE, variables)["upsertSweep"]["sweep"]


def _find(door: Door, order: SweepOrder, environment: Mapping[str, str]) -> Any:
    entity, project = order.home
    name = str(order.sweep_id).rpartition("/")[2]
    variables = {
        "name": name,
        "entity": entity or environment.get("WANDB_ENTITY"),
        "project": project or environment.get("WANDB_PROJECT") or DEFAULT_PROJECT,
    }
    answer = door.ask_graphql(_FIND, variables)["project"]
    found = answer and answer["sweep"]
    if not found:
        where = "/".join(filter(None, [variables["entity"], variables["project"], name]))
        raise BackendError(f"{door.url}: there is no sweep {where}")
    if order.reopens and found["state"] == FINISHED:
        return door.ask_graphql(_REOPEN, {"id": name})["upsertSweep"]["sweep"]
    return found


def _with_distributions(configuration: Mapping[str, Any]) -> Any:
    """Return a configuration as the client sends it: where bounds alone are given, with what they mean."""
    plain = json.loads(json.dumps(dict(configuration)))
    for name, parameter in (plain.get("parameters") or {}).items():
        if {"min", "max"} <= parameter.keys() and "distribution" not in parameter:
            parameter["distribution"] = _meant(name, parameter["min"], parameter["max"])
    return plain


def _meant(name: str, least: object, most: object) -> str:
    if isinstance(least, int) and isinstance(most, int):
        return "int_uniform"
    if isinstance(least, float) and isinstance(most, float):
        return "uniform"
    raise BackendError(
        f"parameter {name} is ambiguous: its bounds are to be two floats (uniform) or two ints (int_uniform)"
    )


class _Dumper(yaml.SafeDumper):
    """Writes text that begins with a zero in quotes: "008" would be a number to other readers."""

    def represent_scalar(self, tag: str, value: Any, style: str | None = None) -> yaml.ScalarNode:
        if tag == "tag:yaml.org,2002:str" and value.startswith("0") and len(value) > 1:
            style = "'"
        return super().represent_scalar(tag, value, style)
