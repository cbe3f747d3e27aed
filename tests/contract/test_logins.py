"""Logins: we find the same server, API key and mode as the client."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.client.credentials import find_credentials, find_mode
from tests.commands import start_python
from tests.contract.serving import CLIENTS, ROOT, answers_in

OLD, NEW, OWN = ("api.wandb.ai", "a" * 40), ("api.forge.coreweave.com", "b" * 40), ("w.example", "c" * 40)


def netrc(*known: tuple[str, str]) -> str:
    return "".join(f"machine {host}\n  login user\n  password {key}\n" for host, key in known)


SYSTEM, PROJECT = ".config/wandb/settings", "wandb/settings"
OWN_SERVER: Final = "[default]\nbase_url = http://w.example/\n"
OFFLINE: Final = "[default]\nmode = offline\n"


BOTH: Final = {".netrc": netrc(OLD, NEW)}
PROXY: Final = "https://forge.coreweave.com/api/wandb"
HOMES: Final[dict[str, tuple[dict[str, str], dict[str, str]]]] = {
    "no login": ({}, {}),
    "by an older client": ({".netrc": netrc(OLD)}, {}),
    "by a newer client": ({".netrc": netrc(NEW)}, {}),
    "by both": (BOTH, {}),
    "the older address": (BOTH, {"WANDB_BASE_URL": "https://api.wandb.ai/"}),
    "the proxy": (BOTH, {"WANDB_BASE_URL": PROXY}),
    "the user's own server": ({SYSTEM: OWN_SERVER, "_netrc": netrc(OWN)}, {}),
    "a second netrc": ({SYSTEM: OWN_SERVER, "_netrc": netrc(OWN), **BOTH}, {}),
    "a project's server": ({PROJECT: OWN_SERVER, "n": netrc(OWN)}, {"NETRC": "n"}),
    "wandb offline": ({PROJECT: OFFLINE}, {"NETRC": ""}),
    "a project's hidden folder": ({PROJECT: OFFLINE, ".wandb/settings": OWN_SERVER}, {}),
    "WANDB_DIR": ({PROJECT: OFFLINE, "d/wandb/settings": OWN_SERVER}, {"WANDB_DIR": "d"}),
    "wandb online": ({PROJECT: OFFLINE, SYSTEM: OWN_SERVER}, {"WANDB_MODE": "online"}),
}
"""Files and environment variables of each home."""


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The environment of each home, by its name."""
    made = {}
    for number, (name, (files, environment)) in enumerate(HOMES.items()):
        home = tmp_path / str(number)
        home.mkdir()
        for path, content in files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(content)
        made[name] = {"HOME": str(home), **environment}
    return made


def found_by_the_client(homes: dict[str, dict[str, str]], folder: Path) -> Any:
    """Return what the client finds in each home."""
    own = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), "HOMES": json.dumps(homes)}
    client = start_python(str(CLIENTS / "logged_in.py"), folder=folder, environment=own)
    stdout, stderr = client.communicate(timeout=60)
    assert client.wait() == 0, stderr
    return answers_in(stdout)


@pytest.mark.leans_on_wandb
def test_our_credentials_and_mode_match_those_of_the_client(
    homes: dict[str, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {}
    for name, environment in homes.items():
        monkeypatch.chdir(environment["HOME"])  # the project's settings are read from here, as by the client
        found, mode = find_credentials(environment), find_mode(environment).name or "online"
        ours[name] = {"base_url": found.base_url, "key": found.key, "mode": mode}
    assert ours == found_by_the_client(homes, tmp_path)
