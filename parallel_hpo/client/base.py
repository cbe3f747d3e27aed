"""What a sweep server is to the supervisor, whichever it is.

The variables by which a wandb client finds the embedded server, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from parallel_hpo.core.types import RunId, SweepPath

PAUSED: Final = "PAUSED"
"""The state of a sweep that gives out no run for now."""


@dataclass(frozen=True, slots=True)
class OpenedSweep:
    """A sweep that exists on its server."""

    path: SweepPath
    url: str
    configuration: Mapping[str, Any]
    """As the server has it: the metric of a joined sweep is known from here."""
    state: str = ""
    """What the server calls its state; '': it was not asked."""

    @property
    def metric(self) -> str | None:
        """The name of the sweep's metric, where it has one."""
        return self._metric.get("name")

    @property
    def goal(self) -> str:
        """Which value of it is the best: "minimize" or "maximize"."""
        return str(self._metric.get("goal", "minimize"))

    @property
    def is_paused(self) -> bool:
        """Whether it gives out no run until somebody resumes it."""
        return self.state == PAUSED

    @property
    def run_cap(self) -> int | None:
        """How many runs the sweep may have at most; None: no limit."""
        cap = self.configuration.get("run_cap")
        return cap if isinstance(cap, int) and cap > 0 else None

    @property
    def _metric(self) -> Mapping[str, Any]:
        return self.configuration.get("metric") or {}


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """The sweep that is wanted: `configuration` to create one, or `sweep_id` to join one."""

    configuration: Mapping[str, Any] | None
    project: str | None
    entity: str | None
    sweep_id: str | None
    seed: int | None = None
    """What a server of ours is to draw the parameters by; None: chance. W&B's draws as it likes."""
    reopens: bool = False
    """Whether one that is finished is to give runs again."""

    @property
    def home(self) -> tuple[str | None, str | None]:
        """The entity and the project that it names: in the id, by themselves, or in the configuration."""
        named = self.configuration or {}
        entity, project = self.entity or named.get("entity"), self.project or named.get("project")
        *given, _ = str(self.sweep_id).split("/")
        return (given[0] if len(given) > 1 else entity), (given[-1] if given else project)


@dataclass(frozen=True, slots=True)
class AwaitedRun:
    """A run for whose sake agents wait: another one was given it, and has not started it."""

    run_id: RunId
    label: str
    """Which worker's agent that is; empty: a stranger's."""
    host: str
    """The machine that it runs on."""


RunCall = Callable[[str, tuple[Any, ...], Mapping[str, str], float], Any]
"""Calls "module:name" with arguments, in a child with these variables, and waits so many seconds."""


class Backend(Protocol):
    """A sweep server; its methods block, and may be called from any thread."""

    name: str
    """`local` or `wandb`, as in the configuration."""
    title: str
    """What people are told that it is."""
    keeps_login: bool
    """Whether it takes only the keys that it gave out itself."""

    def open(self, on_lost: Callable[[str], None] = ..., on_trouble: Callable[[str], None] = ...) -> None:
        """Start what has to be started, without waiting for it.

        In another thread `on_lost` is told why the server will not be back, and `on_trouble`
        why it can't do its work for now: '' once it can again.
        """

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep; raises BackendError with the server's address and answer."""

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """Take a sweep as opened that is known to be there; nothing is asked."""

    def address_for_people(self, url: str) -> str:
        """Return an address that a person's browser is let in by, of a page of the server's."""

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the variables with which the wandb client of the worker `label` finds the server."""

    def why_over(self, path: SweepPath) -> str:
        """Return why the sweep gives no more runs, in words; '' while it goes on."""

    def give_back(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Let others have the runs that a dead worker was issued and never started, all but `keep`."""

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Say that a run has ended, and how (`finished`, `killed`, …), whose process can't say so."""

    def without_own_word(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return the state of each run that has not told its end itself, where its owner may tell it."""

    def awaited(self, path: SweepPath) -> Sequence[AwaitedRun]:
        """Return the runs for whose sake agents wait once there is no other; none where that is not known."""

    def send_rest(self, folder: Path) -> None:
        """Send what a dead run's client left unsent in the run's folder."""

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """Return the runs, none of them `known`, that the server counts as running and nobody started."""

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished."""

    def close(self) -> None:
        """Stop what `open` started."""


LOOPBACK: Final = "127.0.0.1"
PACE: Final = "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"
SENT_EVERY: Final = "1"
"""Seconds until what a run logs is sent, for pages that show it as it comes. wandb client: 15 by itself; it
takes whole numbers only."""


def client_variables(url: str, key: str, directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a server's address, a key, what keeps other keys and proxies out, and the pace of sending.

    `environment` is the user's: a pace that it names stays.
    """
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "WANDB_MODE": "online",  # also where a settings file says otherwise
        "WANDB_ERROR_REPORTING": "false",
        PACE: environment.get(PACE, SENT_EVERY),
        "NETRC": str(directory / "no-netrc"),
        "WANDB_CONFIG_DIR": str(directory / "wandb-config"),
        **_without_proxy(environment, urlsplit(url).hostname or ""),
    }


def _without_proxy(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return `NO_PROXY` with loopback and a host without a name added, in the spellings that clients read."""
    known = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    nameless = host if host != LOOPBACK and host.replace(".", "").isdigit() else ""
    value = ",".join(filter(None, [known, LOOPBACK, "localhost", nameless]))
    return {"NO_PROXY": value, "no_proxy": value}
