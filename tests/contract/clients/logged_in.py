"""To which server a client of this home would talk, with what key, and in which mode."""

from __future__ import annotations

import json

import wandb
from wandb.sdk.lib.wbauth import wbnetrc

settings = wandb.setup().settings
key = wbnetrc.read_netrc_auth(host=settings.base_url) or settings.api_key
print(json.dumps({"base_url": settings.base_url, "key": key, "mode": settings.mode}))
