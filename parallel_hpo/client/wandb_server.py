"""W&B's own server, or any that speaks like it: reached through the wandb client alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from parallel_hpo.client.base import AwaitedRun, OpenedSweep, RunCall, SweepRequest
from parallel_hpo.client.calls import CHECK_LIMIT_S, SEND_LIMIT_S
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.types import RunId, SweepPath

OPEN_LIMIT_S: Final = 60.0
"""A server that can't be reached or refuses us is told of within this and twice CHECK_LIMIT_S at the most."""
ASK_LIMIT_S: Final = 60.0


class WandbBackend:
    """The server that the client is logged in to; a Backend."""

    name = "wandb"
    keeps_login = False

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def open(
        self,
        on_lost: Callable[[str], None] = lambda why: None,
        on_trouble: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Nothing is to be started; a server that is away is waited for, as the client does."""

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep, after one quick request that tells an unreachable server from a refusal."""
        self._run_call = run_call
        self._check()
        answer = self._call("calls:open_sweep", (order,), OPEN_LIMIT_S)
        assert isinstance(answer, OpenedSweep)
        return answer

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """Take a sweep as opened; W&B's client needs no more than its login."""
        self._run_call = run_call

    def address_for_people(self, url: str) -> str:
        """W&B asks a browser for its own login."""
        return url

    def client_environment(self, label: str) -> Mapping[str, str]:
        """The client finds its server by itself."""
        return {"WANDB_BASE_URL": self._credentials.base_url}

    def why_over(self, path: SweepPath) -> str:
        """Return why the sweep gives no more runs; '' while it goes on."""
        return str(self._call("calls:why_over", (path,), ASK_LIMIT_S))

    def give_back(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """W&B takes such runs back itself, after about an hour; it offers no way to ask for it."""

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """W&B calls a silent run crashed after about five minutes; it offers no way to say so earlier."""

    def without_own_word(self, path: SweepPath) -> Mapping[RunId, str]:
        """There is none of whose end W&B could be told."""
        return {}

    def awaited(self, path: SweepPath) -> Sequence[AwaitedRun]:
        """W&B doesn't say: there an agent is not kept waiting for what another one has."""
        return ()

    def send_rest(self, folder: Path) -> None:
        """Send what a dead run's client left unsent in the run's folder."""
        self._call("calls:send_rest", (str(folder),), SEND_LIMIT_S, WANDB_DIR=str(folder.parent.parent))

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """Return runs that the server counts as running or waiting and that are none of `known`.

        W&B makes a run when it answers a heartbeat: where that answer was lost, nobody ever starts it.
        """
        listed = self._call("calls:open_runs", (path,), ASK_LIMIT_S)
        assert isinstance(listed, tuple)
        return [run for run in listed if run not in known]

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished."""
        self._call("calls:finish_sweep", (path,), ASK_LIMIT_S)

    def close(self) -> None:
        """Nothing was started."""

    def _call(self, function: str, arguments: tuple[object, ...], limit_s: float, **more: str) -> object:
        try:
            name = f"parallel_hpo.client.{function}"
            return self._run_call(name, arguments, {**self.client_environment(""), **more}, limit_s)
        except BackendError as error:
            raise BackendError(f"{self._credentials.base_url}: {error}") from None

    def _check(self) -> None:
        """Ask the server who we are; raises BackendError with its address and its answer."""
        why = self._call("calls:why_out_of_reach", (self._credentials,), CHECK_LIMIT_S * 2)
        if why:
            raise BackendError(str(why))
