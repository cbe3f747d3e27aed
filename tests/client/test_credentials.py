"""Credentials for a W&B server, and the choice of a sweep server that follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.client.choose import ChosenBackend, WandbBackend, choose_backend, make_backend
from parallel_hpo.client.credentials import (
    CLOUD,
    FORGE,
    FORGE_SINCE,
    Credentials,
    Mode,
    find_credentials,
    find_mode,
)
from parallel_hpo.client.own_servers import LocalBackend, RemoteBackend
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.errors import BackendError, ConfigError, ExitCode
from parallel_hpo.core.version import installed_client, release

Environment = dict[str, str]
DEFAULT_BASE_URL = FORGE if release(installed_client()) >= FORGE_SINCE else CLOUD


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of a user without a login, in a project's folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return {"HOME": str(tmp_path)}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def settings(**values: str) -> str:
    return "[default]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())


def netrc(machine: str, key: str) -> str:
    return f"machine {machine}\n  login user\n  password {key}\n"


USERS: Final = ".config/wandb/settings"
KNOWN: Final = netrc("api.wandb.ai", "k")
LOCAL: Final = netrc("localhost:8080", "k")


@pytest.mark.parametrize(
    ("files", "variables", "source", "key"),
    [
        ({}, {}, "", ""),
        ({}, {"WANDB_API_KEY": ""}, "", ""),
        ({}, {"WANDB_API_KEY": "k"}, "WANDB_API_KEY", "k"),
        ({}, {"WANDB_IDENTITY_TOKEN_FILE": "/token"}, "WANDB_IDENTITY_TOKEN_FILE", ""),
        ({USERS: settings(api_key="k")}, {}, USERS, "k"),
        *(
            ({USERS: text}, {}, "", "")
            for text in ("no section", "[default]\nbroken", "[other]\na = b", "\x00")
        ),
        *(({name: KNOWN}, {}, name, "k") for name in (".netrc", "_netrc")),
        ({".netrc": "machine api.wandb.ai password"}, {}, "", ""),
        ({".netrc": netrc("elsewhere.example", "no"), "_netrc": KNOWN}, {}, "", ""),
        ({".netrc": netrc("api.wandb.ai", "no"), "other": KNOWN}, {"NETRC": "other"}, "other", "k"),
        ({".netrc": KNOWN}, {"NETRC": "nothing"}, "", ""),
        ({".netrc": LOCAL}, {}, "", ""),
        ({".netrc": LOCAL}, {"WANDB_BASE_URL": "http://localhost:9090"}, "", ""),
        ({".netrc": LOCAL}, {"WANDB_BASE_URL": "http://localhost:8080/"}, ".netrc", "k"),
        ({USERS: settings(api_key="no"), ".netrc": KNOWN}, {}, ".netrc", "k"),
        ({".netrc": netrc("api.wandb.ai", "no")}, {"WANDB_API_KEY": "k"}, "WANDB_API_KEY", "k"),
    ],
)
def test_a_key_is_read_from_the_environment_then_a_netrc_file_then_the_settings(
    home: Environment, tmp_path: Path, files: dict[str, str], variables: dict[str, str], source: str, key: str
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    if "NETRC" in variables:
        variables = {"NETRC": str(tmp_path / variables["NETRC"])}
    place = str(tmp_path / source) if source in files else source
    url = variables.get("WANDB_BASE_URL", DEFAULT_BASE_URL).rstrip("/")
    assert find_credentials(home | variables) == Credentials(url, place, key or None)


def test_the_settings_folder_can_be_configured(home: Environment, tmp_path: Path) -> None:
    write(tmp_path / "mine" / "settings", settings(api_key="k2", base_url="https://w.example/"))
    found = find_credentials(home | {"WANDB_CONFIG_DIR": str(tmp_path / "mine")})
    assert found == Credentials("https://w.example", str(tmp_path / "mine" / "settings"), "k2")


def test_the_environment_overrides_project_settings_and_these_the_users(
    home: Environment, tmp_path: Path
) -> None:
    assert find_mode(home) == Mode()
    write(tmp_path / USERS, settings(base_url="https://user.example", mode="online"))
    write(tmp_path / "project/wandb/settings", settings(base_url="https://project.example", mode="offline"))
    assert find_credentials(home).base_url == "https://project.example"
    assert find_mode(home) == Mode("offline", "mode=offline in wandb/settings")
    write(tmp_path / "project/.wandb/settings", settings(mode="disabled"))
    assert find_credentials(home).base_url == "https://user.example"
    assert find_mode(home).name == "disabled"
    environment = home | {"WANDB_BASE_URL": "https://environment.example", "WANDB_MODE": "online"}
    assert find_credentials(environment).base_url == "https://environment.example"
    assert find_mode(environment) == Mode("online", "WANDB_MODE=online")


@pytest.mark.parametrize(
    "url", ["wandb.example.com", "host:8080", "ftp://host", "https://", "http://a b", "http://[x"]
)
def test_an_invalid_address_is_refused_with_its_source(home: Environment, tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"WANDB_BASE_URL: .* is not a server.s address") as refused:
        find_credentials(home | {"WANDB_BASE_URL": url})
    assert refused.value.exit_code is ExitCode.USAGE
    write(tmp_path / USERS, settings(base_url=url))
    with pytest.raises(ConfigError, match=f"base_url in {tmp_path}.*settings: "):
        find_credentials(home)


def test_the_repr_of_credentials_hides_the_key(home: Environment) -> None:
    found = find_credentials(home | {"WANDB_API_KEY": "secret"})
    assert "secret" not in repr(found)


NO_LOGIN: Final = {"HOME": "/nonexistent"}
LOGGED_IN: Final = NO_LOGIN | {"WANDB_API_KEY": "secret"}
THEIRS: Final = {"WANDB_BASE_URL": "http://w"}
OFFLINE: Final = ("offline", "dryrun", "disabled")


@pytest.mark.parametrize(
    ("wanted", "environment", "name", "reason"),
    [
        ("auto", NO_LOGIN, "local", f"no credentials for {DEFAULT_BASE_URL} were found"),
        ("auto", LOGGED_IN, "wandb", f"credentials for {DEFAULT_BASE_URL} from WANDB_API_KEY"),
        ("auto", LOGGED_IN | {"WANDB_MODE": "offline"}, "local", "WANDB_MODE=offline"),
        ("auto", LOGGED_IN | {"WANDB_MODE": "online"}, "wandb", f"credentials for {DEFAULT_BASE_URL} from"),
        ("auto", LOGGED_IN | THEIRS, "wandb", "credentials for http://w from"),
        ("local", NO_LOGIN, "local", ""),
        ("local", LOGGED_IN, "local", ""),
        ("wandb", LOGGED_IN, "wandb", f"credentials for {DEFAULT_BASE_URL} from WANDB_API_KEY"),
        *(
            ("local", NO_LOGIN | {"WANDB_MODE": mode}, "local", f"WANDB_MODE={mode} is ignored")
            for mode in OFFLINE
        ),
    ],
)
@pytest.mark.usefixtures("home")
def test_backend_and_reason_follow_from_configuration_and_environment(
    wanted: str, environment: dict[str, str], name: str, reason: str
) -> None:
    chosen = choose_backend(BackendChoice(wanted), environment, is_ours=lambda url: False)
    assert chosen.name == name
    assert reason in chosen.reason and "secret" not in chosen.reason


def test_a_resumed_sweep_is_the_reason_for_its_local_server() -> None:
    chosen = choose_backend(BackendChoice.LOCAL, NO_LOGIN, why="the sweep is there")
    assert chosen.reason == "the sweep is there"


def test_a_parallel_hpo_server_is_recognized_at_its_address() -> None:
    chosen = choose_backend(BackendChoice.AUTO, LOGGED_IN | THEIRS, is_ours=lambda url: url == "http://w")
    assert (chosen.name, chosen.ours) == ("wandb", True)
    assert chosen.reason.startswith("a parallel_hpo server, with credentials for http://w")


@pytest.mark.parametrize(
    ("environment", "words", "code"),
    [
        (NO_LOGIN | THEIRS, "no credentials for http://w: run `wandb login`", ExitCode.OUR_FAULT),
        *(
            (LOGGED_IN | {"WANDB_MODE": mode}, f'is "wandb", but WANDB_MODE={mode}, ', ExitCode.USAGE)
            for mode in OFFLINE
        ),
    ],
)
def test_wandbs_server_is_refused_without_credentials_and_in_offline_mode(
    environment: Environment, words: str, code: ExitCode
) -> None:
    with pytest.raises((BackendError, ConfigError), match=words) as refused:
        choose_backend(BackendChoice.WANDB, environment)
    assert refused.value.exit_code is code


@pytest.mark.parametrize(
    ("chosen", "kind", "title"),
    [
        (ChosenBackend("local", ""), LocalBackend, None),
        (ChosenBackend("wandb", ""), WandbBackend, None),
        (ChosenBackend("wandb", "", ours=True), RemoteBackend, "parallel-hpo server"),
    ],
)
def test_making_a_backend_starts_nothing(
    home: Environment, tmp_path: Path, chosen: ChosenBackend, kind: type, title: str | None
) -> None:
    made = make_backend(chosen, directory=tmp_path / "data", environment=home | LOGGED_IN)
    assert (type(made), made.name) == (kind, chosen.name)
    assert title in (None, made.title)
    assert not (tmp_path / "data").exists()
