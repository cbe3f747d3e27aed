"""What a supervisor asks of a server of ours, wherever it runs and whoever has started it.

Some things W&B's protocol has no word for: that a worker is dead, and what became of its runs. A server
of ours is asked for them at addresses of its own (`door`), with a key that says what its holder may do.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from parallel_hpo import keys, tickets
from parallel_hpo.backend.base import Awaited, OpenedSweep, RunCall, SweepOrder
from parallel_hpo.backend.calls import GONE, OVER, SEND_LIMIT_S
from parallel_hpo.backend.door import Door
from parallel_hpo.backend.opening import open_sweep
from parallel_hpo.backend.variables import client_variables
from parallel_hpo.config.sweep_words import SEED
from parallel_hpo.words import RunId, SweepPath


class ServerOfOurs(ABC):
    """A server of ours that answers; what is left of a Backend is to start and to end it."""

    keeps_login = True

    def __init__(self, door: Door, directory: Path, environment: Mapping[str, str]) -> None:
        """`directory` is where its clients find no settings of the user's."""
        self._door = door
        self._directory = directory
        self._environment = environment
        self._sweep: str | None = None
        self._ticket_key = ""
        """By which a browser is let in; '' where our key is too small for that."""

    @abstractmethod
    def _key_of(self, label: str, sweep: str | None) -> str:
        """Return the key of the worker `label`; for a sweep, once there is one."""

    def open_sweep(self, order: SweepOrder, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep."""
        if order.configuration is not None and order.seed is not None:
            order = replace(order, configuration={**order.configuration, SEED: order.seed})
        environment = {**self._environment, **self.client_environment(keys.SUPERVISOR)}
        answer = open_sweep(self._door, order, environment)
        self.use_for(answer.path, run_call)
        return answer

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """From now on it is this sweep that clients are given keys for."""
        self._run_call = run_call
        self._sweep = path.sweep_id

    def address_for_people(self, url: str) -> str:
        """Return a page's address with a ticket in it, good for one browser within minutes."""
        return tickets.with_ticket(url, self._ticket_key, time.time()) if self._ticket_key else url

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the server's address, the worker's own key, and what keeps other keys and proxies out.

        The key is good for the sweep that was opened, and no other one.
        """
        key = self._key_of(label, self._sweep)
        return client_variables(self._door.url, key, self._directory, self._environment)

    def why_over(self, path: SweepPath) -> str:
        """Return why the sweep gives no more runs; '' while it goes on."""
        progress = self._door.ask("GET", path, "")
        return GONE if progress is None else OVER.get(str(progress["state"]), "")

    def give_back(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Let others have the runs that a dead worker was issued and never started, all but `keep`."""
        self._door.ask("POST", path, "/release", {"label_prefix": label, "keep": list(keep)})

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Say that a run has ended whose process can't say so."""
        self._door.ask("POST", path, f"/runs/{run_id}/end", {"state": state})

    def without_own_word(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return the state of each run that has not told its end itself."""
        return self._door.ask("GET", path, "/without-own-word") or {}

    def awaited(self, path: SweepPath) -> Sequence[Awaited]:
        """Return the runs for whose sake agents wait once there is no other."""
        answer = self._door.ask("GET", path, "/awaited") or {"runs": []}
        return [Awaited(RunId(run["run"]), run["label"], run["host"]) for run in answer["runs"]]

    def send_rest(self, folder: Path) -> None:
        """Send what a dead run's client left unsent in the run's folder."""
        environment = {**self.client_environment(keys.SUPERVISOR), "WANDB_DIR": str(folder.parent.parent)}
        self._run_call("parallel_hpo.backend.calls:send_rest", (str(folder),), environment, SEND_LIMIT_S)

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """There are none: this server is told of each dead worker, and takes its runs back."""
        return ()

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished, unless it is over already."""
        if not self.why_over(path):
            self.set_state(path, "FINISHED")

    def set_state(self, path: SweepPath, state: str) -> None:
        """Set the sweep to one of W&B's states."""
        self._door.ask("POST", path, "/state", {"state": state})
