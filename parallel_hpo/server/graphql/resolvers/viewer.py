"""The viewer, the server's features, and entities: this server has one user, and any entity name will do.

So every entity is a team there is, whose one member is the user.
"""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.context import DEFAULT_ENTITY
from parallel_hpo.server.graphql.resolvers.context import Info, Resolver, only

_FEATURES: Final = (
    # Without it wandb's client has no `sweep.enqueue_run` and no `wandb sweep-scheduler`.
    "SWEEPS_LOCAL_SCHEDULER",
    "UPDATE_RUN_STATE",
    "FILESTREAM_GZIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
)
"""What wandb's client does only where a server says that it knows it."""
_KEYS: Final = {"edges": [{"node": {"id": "key:local", "name": DEFAULT_ENTITY, "description": None}}]}
"""The names of the user's keys; it has one, whose secret is nobody's to ask for."""


def entity(name: str) -> dict[str, Any]:
    """Return what is known of an entity: its name, and who is in it."""
    return _TEAM | {"id": f"entity:{name}", "name": name}


_MEMBER: Final = {
    "id": "user:local",
    "admin": False,
    "pending": False,
    "email": "local@localhost",
    "username": DEFAULT_ENTITY,
    "name": DEFAULT_ENTITY,
    "photoUrl": None,
    "accountType": "USER",
    "apiKey": None,
}
_TEAM: Final = {
    "organization": None,
    "available": False,
    "photoUrl": None,
    "readOnly": False,
    "readOnlyAdmin": False,
    "isTeam": True,
    "entityType": "team",
    "privateOnly": False,
    "storageBytes": 0,
    "codeSavingEnabled": True,
    "defaultAccess": "PRIVATE",
    "isPaid": False,
    "limits": None,
    "members": [_MEMBER],
}


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
        "apiKeys": _KEYS,
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


def _users(_source: Any, _info: Info, query: str | None = None) -> dict[str, Any]:
    one = user()
    found = any((query or "") in one[name] for name in ("username", "email"))
    return {"edges": only([one] if found else [])}


def _organization(_source: Any, _info: Info, name: str) -> None:
    """Answer that no organization exists: wandb's client says "not found" then."""


def _create_team(_source: Any, _info: Info, input: dict[str, Any]) -> dict[str, Any]:
    return {"entity": entity(input["teamName"])}


QUERY: Final[dict[str, Resolver]] = {
    "viewer": _viewer,
    "serverInfo": _server_info,
    "entity": _entity,
    "users": _users,
    "organization": _organization,
}
MUTATION: Final[dict[str, Resolver]] = {"createTeam": _create_team}
