"""Which names W&B's client takes for artifacts and for what belongs to them. Pure."""

from __future__ import annotations

import re
from typing import Final

from parallel_hpo.server.refusals import RefusedError

LATEST: Final = "latest"
"""The alias of the newest version in each collection."""
_LENGTH: Final = 128  # wandb client: no longer ones
_TAG: Final = re.compile(r"[-\w]+( +[-\w]+)*")  # wandb client: TAG_REGEX
_REGION: Final = "default"
"""The name that wandb's client has for the region of a server that was told none."""
_REGISTRY: Final = "wandb-registry-"  # wandb client: projects that stand for registries begin so


def check_name(name: str) -> str:
    """Return a collection's, type's or alias' name if the client could name it again; else RefusedError.

    It finds a version by entity/project/collection:alias, and makes folders of these names.
    """
    fits = 0 < len(name) <= _LENGTH and name not in (".", "..")
    if not fits or any(c < " " or c in "/:\x7f" for c in name):
        raise RefusedError(
            f"artifact name, type or alias {name[:100]!r}: 1 to {_LENGTH} characters, without / and :"
        )
    return name


def check_tag(name: str) -> str:
    """Return a tag if it is one to the client, else RefusedError."""
    if len(name) > _LENGTH or not _TAG.fullmatch(name):
        raise RefusedError(
            f"tag {name[:100]!r}: 1 to {_LENGTH} letters, digits, hyphens and underscores, and spaces within"
        )
    return name


def check_region(region: str | None) -> None:
    """Refuse a storage region that this server doesn't have."""
    if region not in (None, "", _REGION):
        raise RefusedError(
            f"there is no storage region {region[:100]!r} on this server, which keeps all files itself: "
            "leave out storage_region, or log to W&B"
        )


def check_no_registry(project: str) -> None:
    """Refuse a project that stands for a registry."""
    if project.startswith(_REGISTRY):
        raise RefusedError(
            f"{project!r} is a registry, and there are none on this server: link to a portfolio, "
            'a name in a project, as run.link_artifact(artifact, "best-models")'
        )
