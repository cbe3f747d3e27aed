"""Whose a server is: one of ours says so to anybody, without a key; W&B's has no such address.

Asked before anything is started, and so in this process: one quick request.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from parallel_hpo.backend.door import ServerAddress
from parallel_hpo.errors import BackendError, ServerAwayError

OUR_NAME: Final = "parallel_hpo"
ASK_LIMIT_S: Final = 3.0
"""One that takes longer counts as a stranger's, and is asked by the wandb client, which has patience."""


def is_away(url: str) -> bool:
    """Return whether nobody answers at this address now, as where a server is being started again."""
    try:
        ServerAddress(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except ServerAwayError:
        return True
    except BackendError:
        return False
    return False


def is_ours(url: str) -> bool:
    """Return whether a server of ours answers at this address."""
    host = urlsplit(url).hostname or ""
    if host == "wandb.ai" or host.endswith(".wandb.ai"):
        return False
    try:
        answer = ServerAddress(url, "").ask("GET", "/hpo/health", limit_s=ASK_LIMIT_S)
    except BackendError:
        return False
    return isinstance(answer, dict) and answer.get("server") == OUR_NAME
