"""Which backend a sweep gets, and the line that says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from parallel_hpo.backend.base import Backend
from parallel_hpo.backend.credentials import find_credentials
from parallel_hpo.backend.door import is_ours
from parallel_hpo.backend.local import LocalBackend
from parallel_hpo.backend.remote import RemoteBackend
from parallel_hpo.backend.variables import LOOPBACK
from parallel_hpo.backend.wandb_server import WandbBackend
from parallel_hpo.config.hpo import BackendChoice
from parallel_hpo.config.sweep_words import EngineChoice
from parallel_hpo.errors import BackendError, ConfigError
from parallel_hpo.search.wandb_process import require_wandb_engine

OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, slots=True)
class Chosen:
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
) -> Chosen:
    """Return the backend that `wanted` means in this environment; `is_ours` is asked of a server's address.

    Raises:
        BackendError: `wandb` without credentials.
        ConfigError: `wandb` with a WANDB_MODE in which no run reaches the server (its runs
            would be handed out again every hour).
    """
    credentials = find_credentials(environment)
    mode = environment.get("WANDB_MODE", "")
    if wanted is BackendChoice.LOCAL:
        return Chosen("local", "as configured" + _ignored(mode))
    if wanted is BackendChoice.AUTO and (not credentials.source or mode in OFFLINE_MODES):
        why = (
            f"no credentials for {credentials.base_url} were found"
            if not credentials.source
            else f"WANDB_MODE is {mode}"
        )
        return Chosen("local", why)
    if mode in OFFLINE_MODES:
        raise ConfigError(
            f'hpo.backend is "wandb", but WANDB_MODE is {mode!r}, in which no run reaches the server:'
            ' unset WANDB_MODE, or use backend "local"'
        )
    if not credentials.source:
        raise BackendError(
            f'hpo.backend is "wandb", but there are no credentials for {credentials.base_url}:'
            ' run `wandb login`, set WANDB_API_KEY, or use backend "local"'
        )
    ours = credentials.key is not None and is_ours(credentials.base_url)
    whose = "a server of ours, with " if ours else ""
    reason = f"{whose}credentials for {credentials.base_url} from {credentials.source}"
    return Chosen("wandb", reason, ours)


def make_backend(
    chosen: Chosen,
    *,
    directory: Path,
    environment: Mapping[str, str],
    engine: EngineChoice = EngineChoice.AUTO,
    host: str = LOOPBACK,
) -> Backend:
    """Return the backend of that name; nothing is started.

    `engine` and `host` (the address by which it is reached) are the embedded server's; ConfigError where the
    engine is not installed.
    """
    if chosen.name == "local":
        if engine is EngineChoice.WANDB:
            require_wandb_engine()
        return LocalBackend(directory, environment, engine=engine, host=host)
    credentials = find_credentials(environment)
    if chosen.ours and credentials.key is not None:
        return RemoteBackend(credentials.base_url, credentials.key, directory, environment)
    return WandbBackend(credentials)


def _ignored(mode: str) -> str:
    return f"; WANDB_MODE={mode} is ignored" if mode in OFFLINE_MODES else ""
