"""The interface of sweep servers for the session, and the variables that point a wandb client to a server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from parallel_hpo.core.messages import Progress
from parallel_hpo.core.types import RunId, Slot, SweepPath

PAUSED: Final = "PAUSED"
"""State of a sweep that gives no runs until it is resumed."""


@dataclass(frozen=True, slots=True)
class OpenedSweep:
    """A sweep that exists on its server."""

    path: SweepPath
    url: str
    configuration: Mapping[str, Any]
    """As on the server; a joined sweep's metric comes from here."""
    state: str = ""
    """The server's name of its state; '' if not asked."""

    @property
    def metric(self) -> str | None:
        """Name of the sweep's metric, if any."""
        return self._metric.get("name")

    @property
    def goal(self) -> str:
        """Goal of the metric, "minimize" or "maximize"."""
        return str(self._metric.get("goal", "minimize"))

    @property
    def is_paused(self) -> bool:
        """Return whether it gives no runs until it is resumed."""
        return self.state == PAUSED

    @property
    def run_cap(self) -> int | None:
        """Maximum number of runs of the sweep; None: no limit."""
        cap = self.configuration.get("run_cap")
        return cap if isinstance(cap, int) and cap > 0 else None

    @property
    def _metric(self) -> Mapping[str, Any]:
        return self.configuration.get("metric") or {}


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """A request to create a sweep (`configuration`) or to join one (`sweep_id`)."""

    configuration: Mapping[str, Any] | None
    project: str | None
    entity: str | None
    sweep_id: str | None
    seed: int | None = None
    """Sampling seed for a parallel_hpo server; None: random. W&B's server ignores it."""
    reopens: bool = False
    """Whether to reopen the sweep if it is finished."""

    @property
    def home(self) -> tuple[str | None, str | None]:
        """Entity and project: from the id, their own fields, or the configuration."""
        named = self.configuration or {}
        entity, project = self.entity or named.get("entity"), self.project or named.get("project")
        *given, _ = str(self.sweep_id).split("/")
        return (given[0] if len(given) > 1 else entity), (given[-1] if given else project)


RunCall = Callable[[str, tuple[Any, ...], Mapping[str, str], float], Any]
"""Call "module:name" with arguments in a child with these variables; the last argument is a timeout in s."""


class Backend(Protocol):
    """A sweep server; its methods block, and may be called from any thread."""

    name: str
    """`local` or `wandb`, as in the configuration."""
    title: str
    """Displayed name."""
    keeps_login: bool
    """Whether it takes only keys that it has issued itself."""

    def open(self, on_lost: Callable[[str], None] = ..., on_trouble: Callable[[str], None] = ...) -> None:
        """Start the server if needed, without waiting for it.

        Another thread calls `on_lost` with the reason if the server is lost, and `on_trouble`
        with the reason while it can't work, then with ''.
        """

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep; raises BackendError with the server's address and answer."""

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """Use an existing sweep, without a request."""

    def address_for_people(self, url: str) -> str:
        """Return a page's URL for a person's browser, with a one-time login token if needed."""

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the variables that point the wandb client of the worker `label` to the server."""

    def end_reason(self, path: SweepPath) -> str | None:
        """Return why the sweep gives no more runs; None while it does."""

    def requeue_runs(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Requeue the runs issued to a dead worker and never started, all but `keep`."""

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Set the final state (`finished`, `killed`, …) of a run whose process can't do it."""

    def unconfirmed_runs(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return the states of the runs that have not confirmed their end, if their owner may do so."""

    def steps(self, path: SweepPath) -> Sequence[tuple[Slot, Progress]]:
        """Return how far the runs under way are, with their workers' slots, if the server tells it."""

    def send_rest(self, folder: Path) -> None:
        """Send the unsent data in a dead run's folder."""

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """Return runs that the server counts as running but nobody started; none of them is `known`."""

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished."""

    def close(self) -> None:
        """Stop what `open` started."""


LOOPBACK: Final = "127.0.0.1"
PACE: Final = "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"
SENT_EVERY: Final = "1"
"""Interval of sending logged data in whole seconds, for live pages. wandb client: 15 by default."""


def client_variables(url: str, key: str, directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables for a server's address, a key, the send interval, and against other keys and proxies.

    `environment` is the user's, whose own interval is kept.
    """
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "WANDB_MODE": "online",  # overrides settings files
        "WANDB_ERROR_REPORTING": "false",
        PACE: environment.get(PACE, SENT_EVERY),
        "NETRC": str(directory / "no-netrc"),
        "WANDB_CONFIG_DIR": str(directory / "wandb-config"),
        **_without_proxy(environment, urlsplit(url).hostname or ""),
    }


def _without_proxy(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return `NO_PROXY` with loopback and a numeric host added, in both spellings that clients read."""
    known = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    nameless = host if host != LOOPBACK and host.replace(".", "").isdigit() else ""
    value = ",".join(filter(None, [known, LOOPBACK, "localhost", nameless]))
    return {"NO_PROXY": value, "no_proxy": value}
