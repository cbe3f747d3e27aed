"""Checks of the wandb client, and of the way from a machine to a server: is it reachable, do clocks agree?

The time is the `Date` header of any HTTP answer, in whole seconds. For the coordinator, a port on its address
listens during the check and gives empty answers; no sweep server is started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from urllib3.exceptions import HTTPError

from parallel_hpo.client.choose import choose_backend
from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.client.server_client import connections_to
from parallel_hpo.config.section import BackendChoice
from parallel_hpo.core.errors import BackendError, ParallelHPOError
from parallel_hpo.doctor.findings import Finding, ServerToReach, bad, good, warning
from parallel_hpo.processes.environment import LEAKED

OLDEST: Final = (0, 28, 2)
"""Oldest supported release, as in pyproject.toml; docs/releases.md says why."""
FLAPPING: Final = "WANDB_AGENT_DISABLE_FLAPPING"


def examine_client(environment: Mapping[str, str], backend: BackendChoice) -> Iterator[Finding]:
    """Check wandb's version, the backend and the environment's variables."""
    yield _on_version()
    try:
        chosen = choose_backend(backend, environment)
        yield good("backend", f"{chosen.name}: {chosen.reason}")
    except ParallelHPOError as error:
        yield bad("backend", str(error), "log in with `wandb login`, or set hpo.backend to local")
    for name in LEAKED:
        if name in environment:
            yield _on_leak(name, environment[name])


def _on_version() -> Finding:
    try:
        found = version("wandb")
    except PackageNotFoundError:
        return bad("wandb", "is not installed", "pip install wandb")
    if is_too_old(found):
        return bad("wandb", f"version {found} is too old", "pip install --upgrade wandb")
    return good("wandb", f"version {found}")


def is_too_old(version: str) -> bool:
    """Return whether a release of wandb is older than the supported ones."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < OLDEST


def _on_leak(name: str, value: str) -> Finding:
    if name == FLAPPING:
        words = f"{name}={value} ends wandb's own agents after their first failed run; workers don't get it"
    else:
        words = f"{name}={value} is of a run or job that this shell is in; workers don't get it"
    return warning("environment", words, f"unset {name}")


LIMIT_S: Final = 5.0
MOST_DIFFERENCE_S: Final = 2.0
HEALTH: Final = "/hpo/health"
"""Path of the request; any answer is enough, also W&B's 404."""
_NOBODYS: Final = (502, 503, 504)
"""Statuses of a proxy without a server behind it."""


def examine_reach(
    server: ServerToReach, *, clock: Callable[[], float] = time.time, limit_s: float = LIMIT_S
) -> Iterator[Finding]:
    """Check that a server answers, and compare its clock with this one."""
    sent = clock()
    try:
        head = _ask(server.url, limit_s)
    except BackendError as error:
        words = f"{server.what} at {server.url} can't be reached from here: {error}"
        yield bad("reach", words, "let this machine connect there: firewall, route, or a proxy's variables")
        return
    received = clock()
    yield good("reach", f"{server.what} at {server.url} answers")
    server_time = _time_in(head)
    if server_time is not None:
        yield _on_clock(clock_difference(server_time, sent, received), server.what)


def clock_difference(server_time: float, sent: float, received: float) -> float:
    """Return by how many seconds this clock is ahead of a server's, whose answer has whole seconds.

    It is a lower bound: the answer's travel time is not counted as a difference.
    """
    ahead = (sent + received) / 2 - (server_time + 0.5)
    unsure = (received - sent) / 2
    return max(0.0, ahead - unsure) if ahead > 0 else min(0.0, ahead + unsure)


def _on_clock(ahead_s: float, what: str) -> Finding:
    way = "ahead of" if ahead_s > 0 else "behind"
    if abs(ahead_s) <= MOST_DIFFERENCE_S:
        return good("clock", f"within {MOST_DIFFERENCE_S:g} s of {what}")
    words = f"about {abs(ahead_s):.0f} s {way} {what}: times of runs will not fit together"
    return warning("clock", words, "let a time service (chrony, ntpd) set it on both")


def _ask(url: str, limit_s: float) -> Mapping[str, str]:
    """Return the headers of any answer; BackendError if there is none."""
    try:
        answer = connections_to(url).request("GET", url.rstrip("/") + HEALTH, timeout=limit_s, retries=False)
    except (OSError, HTTPError) as error:
        raise BackendError(str(error)) from None
    if answer.status in _NOBODYS:
        raise BackendError(f"HTTP {answer.status} {answer.reason}")
    return answer.headers


def _time_in(head: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(head["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


@contextmanager
def servers_to_reach(
    wanted: BackendChoice, environment: Mapping[str, str], host: str
) -> Iterator[tuple[ServerToReach, ...]]:
    """Provide the servers that a sweep's nodes must reach, listening for the coordinator within the block.

    Raises:
        OSError: `host` can't be listened on.
        BackendError, ConfigError: the backend is not available.
    """
    chosen = choose_backend(wanted, environment)
    url = "" if chosen.name == "local" else find_credentials(environment).base_url
    if chosen.ours:
        yield (ServerToReach("the sweep's server", url),)
        return
    with _listening(host) as here:
        head = ServerToReach("the coordinator", here)
        yield (head,) if chosen.name == "local" else (head, ServerToReach("W&B", url))


@contextmanager
def _listening(host: str) -> Iterator[str]:
    """Listen on a free port of an address of this machine; provide the URL."""
    with ThreadingHTTPServer((host, 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, name="parallel_hpo-meeting", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Nothing(BaseHTTPRequestHandler):
    """Gives empty answers."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Log nothing."""
