"""Who has logged in: where the client finds its server, its key and its mode, ours are found too."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

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


@pytest.mark.leans_on_wandb
@pytest.mark.parametrize(
    ("files", "environment"),
    [
        pytest.param({}, {}, id="who never logged in"),
        pytest.param({".netrc": netrc(OLD)}, {}, id="by an older client"),
        pytest.param({".netrc": netrc(NEW)}, {}, id="by a newer client"),
        pytest.param({".netrc": netrc(OLD, NEW)}, {}, id="by both"),
        pytest.param(
            {".netrc": netrc(OLD, NEW)}, {"WANDB_BASE_URL": "https://api.wandb.ai/"}, id="the older address"
        ),
        pytest.param(
            {".netrc": netrc(OLD, NEW)},
            {"WANDB_BASE_URL": "https://forge.coreweave.com/api/wandb"},
            id="the proxy",
        ),
        pytest.param({SYSTEM: OWN_SERVER, "_netrc": netrc(OWN)}, {}, id="a server of the user's"),
        pytest.param(
            {SYSTEM: OWN_SERVER, "_netrc": netrc(OWN), ".netrc": netrc(OLD, NEW)}, {}, id="a second netrc"
        ),
        pytest.param({PROJECT: OWN_SERVER, "n": netrc(OWN)}, {"NETRC": "n"}, id="a project's server"),
        pytest.param({PROJECT: OFFLINE}, {"NETRC": ""}, id="wandb offline"),
        pytest.param({PROJECT: OFFLINE, ".wandb/settings": OWN_SERVER}, {}, id="a project's hidden folder"),
        pytest.param({PROJECT: OFFLINE, "d/wandb/settings": OWN_SERVER}, {"WANDB_DIR": "d"}, id="WANDB_DIR"),
        pytest.param({PROJECT: OFFLINE, SYSTEM: OWN_SERVER}, {"WANDB_MODE": "online"}, id="wandb online"),
    ],
)
def test_the_client_is_taken_to_be_logged_in_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    own = {"HOME": str(tmp_path), **environment}
    client = start_python(
        str(CLIENTS / "logged_in.py"),
        folder=tmp_path,
        environment={"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), **own},
    )
    stdout, stderr = client.communicate(timeout=60)
    assert client.wait() == 0, stderr
    monkeypatch.chdir(tmp_path)  # where it reads the project's settings, as the client has
    found = find_credentials(own)
    assert answers_in(stdout) == {
        "base_url": found.base_url,
        "key": found.key,
        "mode": find_mode(own).name or "online",
    }
