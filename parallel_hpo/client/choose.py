"""The backend of W&B's server, and the choice of a sweep's backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.client.base import LOOPBACK, Backend, OpenedSweep, RunCall, SweepRequest
from parallel_hpo.client.calls import CHECK_LIMIT_S, SEND_LIMIT_S
from parallel_hpo.client.credentials import Credentials, find_credentials, find_mode
from parallel_hpo.client.own_servers import LocalBackend, RemoteBackend
from parallel_hpo.client.server_client import is_ours
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.errors import BackendError, ConfigError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import RunId, Slot, SweepPath

OPEN_LIMIT_S: Final = 60.0
"""Timeout for opening a sweep, in seconds, after a check of up to 2 * CHECK_LIMIT_S."""
ASK_LIMIT_S: Final = 60.0


class WandbBackend:
    """W&B's server, or a compatible one, through the wandb client only; a Backend."""

    name = title = "wandb"
    keeps_login = False

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def open(
        self,
        on_lost: Callable[[str], None] = lambda reason: None,
        on_trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Do nothing: the client waits for an unreachable server by itself."""

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep, after a quick check that the server is reachable and accepts the key."""
        self._run_call = run_call
        self._check()
        answer = self._call("calls:open_sweep", (order,), OPEN_LIMIT_S)
        assert isinstance(answer, OpenedSweep)
        return answer

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """Use an existing sweep; W&B's client needs only its login."""
        self._run_call = run_call

    def address_for_people(self, url: str) -> str:
        """Return the URL itself: W&B asks a browser to log in."""
        return url

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the server's address; the client finds its key by itself."""
        return {"WANDB_BASE_URL": self._credentials.base_url}

    def end_reason(self, path: SweepPath) -> str | None:
        """Return why the sweep gives no more runs; None while it does."""
        reason = self._call("calls:end_reason", (path,), ASK_LIMIT_S)
        return None if reason is None else str(reason)

    def requeue_runs(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Do nothing: W&B requeues such runs after about an hour, and has no request for it."""

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Do nothing: W&B sets a silent run to crashed after about five minutes, and takes no request."""

    def unconfirmed_runs(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return nothing: W&B has no request to end a run."""
        return {}

    def steps(self, path: SweepPath) -> Sequence[tuple[Slot, Progress]]:
        """Return nothing: W&B's server would be asked too often."""
        return ()

    def send_rest(self, folder: Path) -> None:
        """Send the unsent data in a dead run's folder."""
        self._call("calls:send_rest", (str(folder),), SEND_LIMIT_S, WANDB_DIR=str(folder.parent.parent))

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """Return running and pending runs on the server that are not `known`.

        W&B creates a run when it answers a heartbeat; if that answer is lost, nobody starts the run.
        """
        listed = self._call("calls:open_runs", (path,), ASK_LIMIT_S)
        assert isinstance(listed, tuple)
        return [run for run in listed if run not in known]

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished."""
        self._call("calls:finish_sweep", (path,), ASK_LIMIT_S)

    def close(self) -> None:
        """Do nothing: nothing was started."""

    def _call(self, function: str, arguments: tuple[object, ...], limit_s: float, **more: str) -> object:
        try:
            name = f"parallel_hpo.client.{function}"
            return self._run_call(name, arguments, {**self.client_environment(""), **more}, limit_s)
        except BackendError as error:
            raise BackendError(f"{self._credentials.base_url}: {error}") from None

    def _check(self) -> None:
        """Check that the server accepts the key; raises BackendError with its address and its answer."""
        problem = self._call("calls:connection_problem", (self._credentials,), CHECK_LIMIT_S * 2)
        if problem is not None:
            raise BackendError(str(problem))


OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """The name of the backend, and why it was chosen."""

    name: str
    reason: str
    ours: bool = False
    """Whether the client is logged in to a parallel_hpo server."""


def choose_backend(
    wanted: BackendChoice,
    environment: Mapping[str, str],
    *,
    is_ours: Callable[[str], bool] = is_ours,
    why: str = "as configured",
) -> ChosenBackend:
    """Return the backend for `wanted` in this environment; `is_ours` checks a server's address.

    `why` is the reason for `wanted` if it is `local`.

    Raises:
        BackendError: `wandb` without credentials.
        ConfigError: `wandb` in a mode of the client in which no run reaches the server (its runs
            would be issued again every hour), or an invalid server address.
    """
    mode = find_mode(environment)
    is_off = mode.name in OFFLINE_MODES
    if wanted is BackendChoice.LOCAL:
        return ChosenBackend("local", f"{why}; {mode.source} is ignored" if is_off else why)
    credentials = find_credentials(environment)
    if wanted is BackendChoice.AUTO and (is_off or not credentials.source):
        return ChosenBackend(
            "local", mode.source if is_off else f"no credentials for {credentials.base_url} were found"
        )
    if is_off:
        raise ConfigError(
            f'hpo.backend is "wandb", but {mode.source}, in which no run reaches the server:'
            ' unset WANDB_MODE and run `wandb online`, or use backend "local"'
        )
    if not credentials.source:
        raise BackendError(
            f'hpo.backend is "wandb", but there are no credentials for {credentials.base_url}:'
            ' run `wandb login`, set WANDB_API_KEY, or use backend "local"'
        )
    ours = credentials.key is not None and is_ours(credentials.base_url)
    whose = "a parallel_hpo server, with " if ours else ""
    reason = f"{whose}credentials for {credentials.base_url} from {credentials.source}"
    return ChosenBackend("wandb", reason, ours)


def make_backend(
    chosen: ChosenBackend,
    *,
    directory: Path,
    environment: Mapping[str, str],
    host: str = LOOPBACK,
) -> Backend:
    """Return the chosen backend without starting it.

    `host` is the address of the embedded server.
    """
    if chosen.name == "local":
        return LocalBackend(directory, environment, host=host)
    credentials = find_credentials(environment)
    if chosen.ours and credentials.key is not None:
        return RemoteBackend(credentials.base_url, credentials.key, directory, environment)
    return WandbBackend(credentials)
