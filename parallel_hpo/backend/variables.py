"""The variables by which a wandb client finds the embedded server, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = "127.0.0.1"
PACE: Final = "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"
SENT_EVERY: Final = "1"
"""Seconds until what a run logs is sent, for pages that show it as it comes. wandb client: 15 by itself; it
takes whole numbers only."""


def client_variables(url: str, key: str, directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a server's address, a key, what keeps other keys and proxies out, and the pace of sending.

    `environment` is the user's: a pace that it names stays.
    """
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "WANDB_MODE": "online",  # also where a settings file says otherwise
        "WANDB_ERROR_REPORTING": "false",
        PACE: environment.get(PACE, SENT_EVERY),
        "NETRC": str(directory / "no-netrc"),
        "WANDB_CONFIG_DIR": str(directory / "wandb-config"),
        **_without_proxy(environment, urlsplit(url).hostname or ""),
    }


def _without_proxy(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return `NO_PROXY` with loopback and a host without a name added, in the spellings that clients read."""
    known = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    nameless = host if host != LOOPBACK and host.replace(".", "").isdigit() else ""
    value = ",".join(filter(None, [known, LOOPBACK, "localhost", nameless]))
    return {"NO_PROXY": value, "no_proxy": value}
