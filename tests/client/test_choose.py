from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.client.choose import ChosenBackend, WandbBackend, choose_backend, make_backend
from parallel_hpo.client.credentials import CLOUD, FORGE, FORGE_SINCE
from parallel_hpo.client.own_servers import LocalBackend, RemoteBackend
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.errors import BackendError, ConfigError, ExitCode
from parallel_hpo.core.version import installed_client, release

NO_LOGIN = {"HOME": "/nonexistent"}
LOGGED_IN = NO_LOGIN | {"WANDB_API_KEY": "secret"}
HOME = FORGE if release(installed_client()) >= FORGE_SINCE else CLOUD
OFFLINE = ["offline", "dryrun", "disabled"]


@pytest.fixture(autouse=True)
def _no_projects_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "environment", "name", "reason"),
    [
        ("auto", NO_LOGIN, "local", f"no credentials for {HOME} were found"),
        ("auto", LOGGED_IN, "wandb", f"credentials for {HOME} from WANDB_API_KEY"),
        ("auto", LOGGED_IN | {"WANDB_MODE": "offline"}, "local", "WANDB_MODE=offline"),
        ("auto", LOGGED_IN | {"WANDB_MODE": "online"}, "wandb", f"credentials for {HOME} from"),
        ("auto", LOGGED_IN | {"WANDB_BASE_URL": "http://w"}, "wandb", "credentials for http://w from"),
        ("local", NO_LOGIN, "local", ""),
        ("local", LOGGED_IN, "local", ""),
        ("wandb", LOGGED_IN, "wandb", f"credentials for {HOME} from WANDB_API_KEY"),
        *(
            ("local", NO_LOGIN | {"WANDB_MODE": mode}, "local", f"WANDB_MODE={mode} is ignored")
            for mode in OFFLINE
        ),
    ],
)
def test_backend_and_reason_follow_from_configuration_and_environment(
    wanted: str, environment: dict[str, str], name: str, reason: str
) -> None:
    chosen = choose_backend(BackendChoice(wanted), environment, is_ours=lambda url: False)
    assert chosen.name == name
    assert reason in chosen.reason and "secret" not in chosen.reason


def test_a_parallel_hpo_server_is_recognized_and_a_resumed_sweep_has_its_own_reason() -> None:
    asked: list[str] = []

    def say_yes(url: str) -> bool:
        asked.append(url)
        return True

    assert (
        choose_backend(BackendChoice.LOCAL, NO_LOGIN, why="the sweep is there").reason == "the sweep is there"
    )
    environment = LOGGED_IN | {"WANDB_BASE_URL": "http://w"}
    chosen = choose_backend(BackendChoice.AUTO, environment, is_ours=say_yes)
    assert (chosen.name, chosen.ours, asked) == ("wandb", True, ["http://w"])
    assert chosen.reason.startswith("a parallel_hpo server, with credentials for http://w")


@pytest.mark.parametrize("mode", OFFLINE)
def test_wandbs_server_is_refused_in_offline_mode(mode: str) -> None:
    with pytest.raises(ConfigError, match=f'hpo.backend is "wandb", but WANDB_MODE={mode}, ') as refused:
        choose_backend(BackendChoice.WANDB, LOGGED_IN | {"WANDB_MODE": mode})
    assert refused.value.exit_code is ExitCode.USAGE


def test_wandbs_server_is_refused_without_credentials() -> None:
    with pytest.raises(BackendError, match="no credentials for http://w: run `wandb login`") as refused:
        choose_backend(BackendChoice.WANDB, NO_LOGIN | {"WANDB_BASE_URL": "http://w"})
    assert refused.value.exit_code is ExitCode.OUR_FAULT


def test_making_a_backend_starts_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    local = make_backend(ChosenBackend("local", ""), directory=folder, environment=NO_LOGIN)
    wandb = make_backend(ChosenBackend("wandb", ""), directory=folder, environment=LOGGED_IN)
    assert isinstance(local, LocalBackend)
    assert isinstance(wandb, WandbBackend)
    ours = make_backend(ChosenBackend("wandb", "", ours=True), directory=folder, environment=LOGGED_IN)
    assert isinstance(ours, RemoteBackend)
    assert (local.name, wandb.name, ours.name) == ("local", "wandb", "wandb")
    assert ours.title == "parallel-hpo server"
    assert not folder.exists()
