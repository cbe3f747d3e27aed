"""What W&B has and this server hasn't, in words for the user who asked for it; the schema has the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_NO_REGISTRY: Final = (
    "it has no organizations, and so it has no registries (wandb-registry-…); link to a portfolio, "
    'a name in a project: run.link_artifact(artifact, "best-models")'
)
_NO_QUEUES: Final = "there are no launch queues and jobs; start agents yourself"
_NO_AUTOMATIONS: Final = "there are no automations and integrations; run.alert writes to the server's log"
_NO_USERS: Final = "there are no users, teams or keys to manage: the server has one user"

_OF_REGISTRIES: Final = (
    *("orgEntity", "deleteModel", "createProjectMembers", "deleteProjectMembers", "teamMembers"),
    *("updateProjectMember", "updateProjectTeamMember"),
)
_OF_USERS: Final = (
    *("createUser", "createInvite", "deleteInvite", "createServiceAccount", "generateApiKey", "deleteApiKey"),
)
_OF_QUEUES: Final = (
    *("upsertRunQueue", "createRunQueue", "runQueue", "runQueues", "deleteRunQueues", "deleteFromRunQueue"),
    *("pushToRunQueue", "pushToRunQueueByName", "popFromRunQueue", "ackRunQueueItem", "failRunQueueItem"),
    *("updateRunQueueItemWarning", "defaultResourceConfig", "createDefaultResourceConfig"),
    *("launchAgent", "createLaunchAgent", "updateLaunchAgent"),
)
_OF_AUTOMATIONS: Final = (
    *("integrations", "triggers", "createFilterTrigger", "updateFilterTrigger", "deleteTrigger"),
    "createGenericWebhookIntegration",
)

REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_OF_REGISTRIES, _NO_REGISTRY),
    **dict.fromkeys(_OF_USERS, _NO_USERS),
    "completeMultipartUploadArtifact": "files are sent whole",
    **dict.fromkeys(_OF_QUEUES, _NO_QUEUES),
    **dict.fromkeys(_OF_AUTOMATIONS, _NO_AUTOMATIONS),
    "createCustomChart": "custom charts are not stored; log the data, or wandb.Table",
    **dict.fromkeys(("views", "allViews", "upsertView"), "reports are not stored"),
}
"""By the GraphQL field that a client asks for."""


def explain(document: str) -> str | None:
    """Return why this server doesn't answer a document, if it asks for something known to be missing."""
    return next((why for field, why in REASONS.items() if re.search(rf"\b{field}\s*[({{]", document)), None)
