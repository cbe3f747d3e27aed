from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.client.credentials import (
    CLOUD,
    FORGE,
    FORGE_SINCE,
    Credentials,
    Mode,
    find_credentials,
    find_mode,
)
from parallel_hpo.core.errors import ConfigError, ExitCode
from parallel_hpo.core.version import installed_client, release

Environment = dict[str, str]
KNOWS_FORGE = release(installed_client()) >= FORGE_SINCE
DEFAULT_BASE_URL = FORGE if KNOWS_FORGE else CLOUD


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a user without a login, in a project's folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return {"HOME": str(tmp_path)}


def write_settings(folder: Path, **settings: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    (folder / "settings").write_text("[default]\n" + "".join(lines))


def write_netrc(path: Path, machine: str, key: str) -> Path:
    path.write_text(f"machine {machine}\n  login user\n  password {key}\n")
    return path


def test_there_are_no_credentials_without_a_login(home: Environment) -> None:
    assert find_credentials(home) == Credentials(DEFAULT_BASE_URL, "")


def test_a_key_in_the_environment_is_found(home: Environment) -> None:
    found = find_credentials(home | {"WANDB_API_KEY": "k1"})
    assert found == Credentials(DEFAULT_BASE_URL, "WANDB_API_KEY", "k1")


def test_an_empty_key_is_none(home: Environment) -> None:
    assert find_credentials(home | {"WANDB_API_KEY": ""}).source == ""


def test_a_token_file_is_found(home: Environment) -> None:
    found = find_credentials(home | {"WANDB_IDENTITY_TOKEN_FILE": "/token"})
    assert found == Credentials(DEFAULT_BASE_URL, "WANDB_IDENTITY_TOKEN_FILE")


def test_a_key_in_the_settings_is_found(home: Environment, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "wandb"
    write_settings(folder, api_key="k2")
    assert find_credentials(home) == Credentials(DEFAULT_BASE_URL, str(folder / "settings"), "k2")


def test_a_folder_of_settings_may_be_configured(home: Environment, tmp_path: Path) -> None:
    write_settings(tmp_path / "mine", api_key="k2", base_url="https://w.example/")
    found = find_credentials(home | {"WANDB_CONFIG_DIR": str(tmp_path / "mine")})
    assert found == Credentials("https://w.example", str(tmp_path / "mine" / "settings"), "k2")


@pytest.mark.parametrize("content", ["no section", "[default]\nbroken", "[other]\na = b", "\x00"])
def test_unreadable_settings_are_ignored(home: Environment, tmp_path: Path, content: str) -> None:
    write_settings(tmp_path / ".config" / "wandb")
    (tmp_path / ".config" / "wandb" / "settings").write_text(content)
    assert find_credentials(home).source == ""


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_a_netrc_at_home_is_found(home: Environment, tmp_path: Path, name: str) -> None:
    path = write_netrc(tmp_path / name, "api.wandb.ai", "k3")
    assert find_credentials(home) == Credentials(DEFAULT_BASE_URL, str(path), "k3")


def test_a_configured_netrc_replaces_the_one_at_home(home: Environment, tmp_path: Path) -> None:
    write_netrc(tmp_path / ".netrc", "api.wandb.ai", "at home")
    elsewhere = write_netrc(tmp_path / "elsewhere", "api.wandb.ai", "k3")
    assert find_credentials(home | {"NETRC": str(elsewhere)}).key == "k3"
    assert find_credentials(home | {"NETRC": str(tmp_path / "nothing")}).source == ""


def test_a_netrc_entry_is_for_one_machine_and_port(home: Environment, tmp_path: Path) -> None:
    write_netrc(tmp_path / ".netrc", "localhost:8080", "k3")
    assert find_credentials(home).source == ""
    assert find_credentials(home | {"WANDB_BASE_URL": "http://localhost:9090"}).source == ""
    found = find_credentials(home | {"WANDB_BASE_URL": "http://localhost:8080/"})
    assert (found.base_url, found.key) == ("http://localhost:8080", "k3")


def test_a_second_netrc_at_home_is_ignored(home: Environment, tmp_path: Path) -> None:
    write_netrc(tmp_path / ".netrc", "elsewhere.example", "k3")
    write_netrc(tmp_path / "_netrc", "api.wandb.ai", "k4")
    assert find_credentials(home).source == ""


@pytest.mark.skipif(not KNOWS_FORGE, reason="this client knows one address of W&B's cloud")
def test_the_clouds_newer_name_comes_first(home: Environment, tmp_path: Path) -> None:
    write_netrc(tmp_path / ".netrc", "api.wandb.ai", "older")
    proxy = {"WANDB_BASE_URL": "https://forge.coreweave.com/api/wandb/"}
    assert [find_credentials(home | more).key for more in ({}, proxy)] == ["older"] * 2
    with (tmp_path / ".netrc").open("a") as file:
        file.write("machine api.forge.coreweave.com\n  login user\n  password newer\n")
    assert [find_credentials(home | more).key for more in ({}, proxy)] == ["newer"] * 2
    older = find_credentials(home | {"WANDB_BASE_URL": CLOUD})
    assert (older.base_url, older.key) == (CLOUD, "older")


def test_a_broken_netrc_is_ignored(home: Environment, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine api.wandb.ai password")
    assert find_credentials(home).source == ""


def test_environment_comes_before_netrc_and_netrc_before_settings(home: Environment, tmp_path: Path) -> None:
    write_settings(tmp_path / ".config" / "wandb", api_key="settings'")
    assert find_credentials(home).key == "settings'"
    write_netrc(tmp_path / ".netrc", "api.wandb.ai", "netrc's")
    assert find_credentials(home).key == "netrc's"
    assert find_credentials(home | {"WANDB_API_KEY": "environment's"}).key == "environment's"


def test_an_address_in_the_environment_comes_before_one_in_the_settings(
    home: Environment, tmp_path: Path
) -> None:
    write_settings(tmp_path / ".config" / "wandb", base_url="https://settings.example")
    assert find_credentials(home).base_url == "https://settings.example"
    environment = home | {"WANDB_BASE_URL": "https://environment.example"}
    assert find_credentials(environment).base_url == "https://environment.example"


def test_settings_of_the_project_come_before_those_of_the_user(home: Environment, tmp_path: Path) -> None:
    write_settings(tmp_path / ".config" / "wandb", base_url="https://user.example", mode="online")
    write_settings(tmp_path / "project" / "wandb", base_url="https://project.example", mode="offline")
    assert find_credentials(home).base_url == "https://project.example"
    assert find_mode(home) == Mode("offline", "mode=offline in wandb/settings")
    write_settings(tmp_path / "project" / ".wandb", mode="disabled")
    assert find_credentials(home).base_url == "https://user.example"
    assert find_mode(home).name == "disabled"
    assert find_mode(home | {"WANDB_MODE": "online"}) == Mode("online", "WANDB_MODE=online")


def test_there_is_no_mode_by_default(home: Environment) -> None:
    assert find_mode(home) == Mode()


@pytest.mark.parametrize(
    "url", ["wandb.example.com", "host:8080", "ftp://host", "https://", "http://a b", "http://[x"]
)
def test_an_invalid_address_is_refused_with_its_source(home: Environment, tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"WANDB_BASE_URL: .* is not a server.s address") as refused:
        find_credentials(home | {"WANDB_BASE_URL": url})
    assert refused.value.exit_code is ExitCode.USAGE
    write_settings(tmp_path / ".config" / "wandb", base_url=url)
    with pytest.raises(ConfigError, match=f"base_url in {tmp_path}.*settings: "):
        find_credentials(home)


def test_a_key_is_never_shown(home: Environment) -> None:
    found = find_credentials(home | {"WANDB_API_KEY": "secret"})
    assert "secret" not in repr(found)
    assert "secret" not in f"{found}"
