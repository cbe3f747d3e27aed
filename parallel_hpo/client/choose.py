"""Which backend a sweep gets, and the line that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.client.base import LOOPBACK, Backend
from parallel_hpo.client.credentials import find_credentials, find_mode
from parallel_hpo.client.own_servers import LocalBackend, RemoteBackend
from parallel_hpo.client.server_client import is_ours
from parallel_hpo.client.wandb_server import WandbBackend
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.errors import BackendError, ConfigError

OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """The name of the backend, and why it is that one."""

    name: str
    reason: str
    ours: bool = False
    """The server that the client is logged in to is one of ours."""


def choose_backend(
    wanted: BackendChoice,
    environment: Mapping[str, str],
    *,
    is_ours: Callable[[str], bool] = is_ours,
) -> ChosenBackend:
    """Return the backend that `wanted` means in this environment; `is_ours` is asked of a server's address.

    Raises:
        BackendError: `wandb` without credentials.
        ConfigError: `wandb` in a mode of the client in which no run reaches the server (its runs
            would be handed out again every hour); an address of a server that is none.
    """
    mode = find_mode(environment)
    is_off = mode.name in OFFLINE_MODES
    if wanted is BackendChoice.LOCAL:
        return ChosenBackend("local", f"as configured; {mode.said} is ignored" if is_off else "as configured")
    credentials = find_credentials(environment)
    if wanted is BackendChoice.AUTO and (is_off or not credentials.source):
        return ChosenBackend(
            "local", mode.said if is_off else f"no credentials for {credentials.base_url} were found"
        )
    if is_off:
        raise ConfigError(
            f'hpo.backend is "wandb", but {mode.said}, in which no run reaches the server:'
            ' unset WANDB_MODE and run `wandb online`, or use backend "local"'
        )
    if not credentials.source:
        raise BackendError(
            f'hpo.backend is "wandb", but there are no credentials for {credentials.base_url}:'
            ' run `wandb login`, set WANDB_API_KEY, or use backend "local"'
        )
    ours = credentials.key is not None and is_ours(credentials.base_url)
    whose = "a server of ours, with " if ours else ""
    reason = f"{whose}credentials for {credentials.base_url} from {credentials.source}"
    return ChosenBackend("wandb", reason, ours)


def make_backend(
    chosen: ChosenBackend,
    *,
    directory: Path,
    environment: Mapping[str, str],
    host: str = LOOPBACK,
) -> Backend:
    """Return the backend of that name; nothing is started.

    `host` is the address by which the embedded server is reached.
    """
    if chosen.name == "local":
        return LocalBackend(directory, environment, host=host)
    credentials = find_credentials(environment)
    if chosen.ours and credentials.key is not None:
        return RemoteBackend(credentials.base_url, credentials.key, directory, environment)
    return WandbBackend(credentials)
