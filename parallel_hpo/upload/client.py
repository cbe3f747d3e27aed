"""The wandb client of an upload, in child processes with the user's environment without OF_A_RUN."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from parallel_hpo.client.base import PACE, SENT_EVERY, OpenedSweep, SweepRequest
from parallel_hpo.client.credentials import Credentials, find_credentials
from parallel_hpo.client.uploading import ArtifactUse, UploadedState, UploadQuery
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.types import SweepPath
from parallel_hpo.core.version import installed_client, release
from parallel_hpo.processes.environment import LEAKED
from parallel_hpo.processes.pool import ChildCalls, ChildPool
from parallel_hpo.processes.reaper import MARK, new_owner_id
from parallel_hpo.upload.sending import UploadTask

OF_A_RUN: Final = (
    *LEAKED,
    *("WANDB_MODE", "WANDB_NAME", "WANDB_NOTES", "WANDB_TAGS", "WANDB_RUN_GROUP", "WANDB_JOB_TYPE"),
    *("WANDB_HOST", "WANDB_PROGRAM", "WANDB_CONSOLE", "WANDB_SILENT", "WANDB_QUIET", "WANDB_DISABLED"),
)
"""Variables that describe a single run, or silence the client."""
OLDEST: Final = "0.30"
"""wandb client: an older `wandb sync` hangs on such files, and does not know what was sent."""
ASK_LIMIT_S: Final = 600.0
"""Timeout of requests in seconds, for projects of thousands of runs and the client's own retries."""
SEND_LIMIT_S: Final = 24 * 3600.0
"""Timeout of sending in seconds; checkpoints may take hours."""
_PRELOAD: Final = ("parallel_hpo.upload.sending",)


class Client:
    """Sends requests to the server that the user's client is logged in to."""

    def __init__(self, calls: ChildCalls, credentials: Credentials) -> None:
        self._calls = calls
        self.credentials = credentials

    def look(self, sought: UploadQuery) -> UploadedState:
        """Return the upload's present state; BackendError if the server is unreachable or refuses."""
        found = self._call("uploading:look", (self.credentials, sought), ASK_LIMIT_S)
        if isinstance(found, str):
            raise BackendError(found)
        assert isinstance(found, UploadedState)
        return found

    def create(self, order: SweepRequest) -> OpenedSweep:
        """Create the sweep."""
        opened = self._call("uploading:create", (order,), ASK_LIMIT_S)
        assert isinstance(opened, OpenedSweep)
        return opened

    def send(self, task: UploadTask) -> Sequence[str]:
        """Send runs of one program; return for each its error, or ''."""
        program = {"WANDB_PROGRAM": task.sends[0].run.program}  # wandb client: else that of `wandb sync`
        function = "parallel_hpo.upload.sending:send_runs"
        errors: Sequence[str] = self._ask(function, (task,), SEND_LIMIT_S, program)
        return errors

    def note_uses(self, path: SweepPath, uses: Sequence[ArtifactUse]) -> Sequence[ArtifactUse]:
        """Record which artifacts the runs used; return those that the destination lacks."""
        missing = self._call("uploading:note_uses", (path.entity, path.project, tuple(uses)), ASK_LIMIT_S)
        assert isinstance(missing, tuple)
        return missing

    def set_state(self, path: SweepPath, verb: str) -> None:
        """Stop or cancel the sweep."""
        self._call("uploading:set_state", (path, verb), ASK_LIMIT_S)

    def _call(self, function: str, arguments: tuple[object, ...], limit_s: float) -> object:
        return self._ask(f"parallel_hpo.client.{function}", arguments, limit_s, {})

    def _ask(
        self, function: str, arguments: tuple[object, ...], limit_s: float, more: Mapping[str, str]
    ) -> Any:
        try:
            return self._calls.run(function, arguments, more, limit_s)
        except BackendError as error:
            raise BackendError(f"{self.credentials.base_url}: {error}") from None


@contextmanager
def client_in(folder: Path, environment: Mapping[str, str]) -> Iterator[Client]:
    """Provide a client with its files in `folder`; UsageError if it is too old or not logged in."""
    installed = installed_client()
    if release(installed) < release(OLDEST):
        raise UsageError(f"upload needs wandb {OLDEST} or newer; this is {installed}: pip install -U wandb")
    credentials = find_credentials(environment)
    if not credentials.source:
        raise UsageError(
            f"there are no credentials for {credentials.base_url}, the destination of this upload:"
            " set WANDB_API_KEY or run `wandb login`, and set WANDB_BASE_URL for another server"
        )
    shared = {name: value for name, value in environment.items() if name not in OF_A_RUN}
    own = {PACE: SENT_EVERY, **shared, "WANDB_DIR": str(folder), MARK: new_owner_id()}
    pool = ChildPool(environment=own, fresh=False, preload=_PRELOAD, sys_path=tuple(sys.path))
    pool.open()
    with closing(pool):
        pool.wait_until_ready()
        yield Client(ChildCalls(pool, ChildSetup(own, tuple(sys.path), str(folder))), credentials)
