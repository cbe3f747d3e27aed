"""Sends a file, fetches it again, and prints the URL."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import wandb

os.chdir(os.environ["HOME"])
Path("sent.txt").write_text("sent")
with wandb.init(project="tls", id="sender") as run:
    run.save("sent.txt")
api: Any = wandb.Api()
file = api.run("local/tls/sender").file("sent.txt")
file.download(root="got")
print(json.dumps({"url": file.url, "text": Path("got/sent.txt").read_text()}))
