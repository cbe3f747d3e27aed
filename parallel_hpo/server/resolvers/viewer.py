"""The viewer, the server's features, and entities: this server has one user, and any entity name will do."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.resolvers.context import Info, Resolver
from parallel_hpo.server.world import DEFAULT_ENTITY

_FEATURES: Final = (
    # Without it wandb's client has no `sweep.enqueue_run` and no `wandb sweep-scheduler`.
    "SWEEPS_LOCAL_SCHEDULER",
    "FILESTREAM_GZIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
)
"""What wandb's client does only where a server says that it knows it."""


def entity(name: str) -> dict[str, Any]:
    """Return what is known of an entity: its name."""
    return {"id": f"entity:{name}", "name": name, "organization": None}


def user() -> dict[str, Any]:
    """Return the one user."""
    return {
        "id": "user:local",
        "name": DEFAULT_ENTITY,
        "username": DEFAULT_ENTITY,
        "email": "local@localhost",
        "admin": False,
        "flags": "{}",
        "entity": DEFAULT_ENTITY,
        "deletedAt": None,
        "apiKeys": {"edges": []},
        "teams": {"edges": [{"node": entity(DEFAULT_ENTITY)}]},
    }


def _viewer(_source: Any, _info: Info) -> dict[str, Any]:
    return user()


def _server_info(_source: Any, _info: Info) -> dict[str, Any]:
    # wandb client 0.28: media and files are logged only after a look at these versions.
    versions = {"min_cli_version": "0.28.0", "max_cli_version": "99.0.0"}
    features = [{"name": name, "isEnabled": True} for name in _FEATURES]
    return {"features": features, "cliVersionInfo": versions, "latestLocalVersionInfo": None}


def _entity(_source: Any, _info: Info, name: str | None = None) -> dict[str, Any]:
    return entity(name or DEFAULT_ENTITY)


QUERY: Final[dict[str, Resolver]] = {"viewer": _viewer, "serverInfo": _server_info, "entity": _entity}
