"""Whose a server is: one of ours says so to anybody, without a key; W&B's has no such address.

Asked before anything is started, and so in this process: one quick request, by what Python itself brings.
"""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Final
from urllib.parse import urlsplit

from parallel_hpo.backend.door import on_the_way_to

OUR_NAME: Final = "parallel_hpo"
ASK_LIMIT_S: Final = 3.0
"""One that takes longer counts as a stranger's, and is asked by the wandb client, which has patience."""
_ANSWER_BYTES: Final = 1000


def is_ours(url: str) -> bool:
    """Return whether a server of ours answers at this address."""
    host = urlsplit(url).hostname or ""
    if host == "wandb.ai" or host.endswith(".wandb.ai"):
        return False
    opener = urllib.request.build_opener(on_the_way_to(url))
    try:
        with opener.open(f"{url}/hpo/health", timeout=ASK_LIMIT_S) as response:
            answer = json.loads(response.read(_ANSWER_BYTES))
    except (OSError, HTTPException, ValueError):
        return False
    return isinstance(answer, dict) and answer.get("server") == OUR_NAME
