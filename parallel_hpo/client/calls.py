"""Calls to a sweep server through the wandb client, each in a child process.

`wandb.Api()` and `wandb.sweep()` start a wandb-core in their process, which must not be the user's. So wandb
is imported inside functions only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.core.types import SweepId, SweepPath

if TYPE_CHECKING:
    import requests

DEFAULT_PROJECT = "uncategorized"
"""W&B's project of sweeps without one."""

FINISHED = "FINISHED"
OVER = {
    FINISHED: "the sweep is finished",
    "CANCELED": "the sweep was cancelled",
    "CANCELLED": "the sweep was cancelled",
}
"""States in which a sweep gives no more runs; a paused one may go on."""

GONE = "the sweep was deleted from its server"

SEND_LIMIT_S = 120.0
"""Timeout for sending unsent data, in seconds; only the next request about the sweep waits for it."""

TORN = "incomplete record"
"""Error of `wandb sync` for a file whose writer was killed; it has sent all complete records then."""


def open_sweep(order: SweepRequest) -> OpenedSweep:
    """Create the sweep by `wandb.sweep`, or find the sweep to join."""
    import wandb

    sweep_id = order.sweep_id
    if order.configuration is not None and sweep_id is None:
        sweep_id = wandb.sweep(dict(order.configuration), project=order.project, entity=order.entity)
    entity, project = order.home
    name = str(sweep_id).rpartition("/")[2]
    api: Any = wandb.Api()
    entity = entity or os.environ.get("WANDB_ENTITY") or str(api.default_entity)
    project = project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    path = SweepPath(entity, project, SweepId(name))
    sweep = api.sweep(str(path))
    if order.reopens and sweep.state == FINISHED:
        from wandb.cli import cli

        cli.sweep.main(["--resume", str(path)], standalone_mode=False)
    return OpenedSweep(path, sweep.url, _plain(sweep.config), str(sweep.state))


def end_reason(path: SweepPath) -> str | None:
    """Return why the sweep gives no more runs; None while it does."""
    import wandb

    api: Any = wandb.Api()
    try:
        state = api.sweep(str(path)).state
    except (ValueError, wandb.errors.CommError) as error:
        # wandb client: an unreachable server is a CommError too.
        if "could not find sweep" in str(error).lower():
            return GONE
        raise
    return OVER.get(state)


def state_of(path: str) -> str:
    """Return the server's name of the sweep's state."""
    import wandb

    api: Any = wandb.Api()
    return str(api.sweep(path).state)


def open_runs(path: SweepPath) -> tuple[str, ...]:
    """Return the ids of the sweep's running and pending runs."""
    import wandb

    api: Any = wandb.Api()
    runs = api.runs(f"{path.entity}/{path.project}", filters={"sweep": path.sweep_id})
    return tuple(run.id for run in runs if run.state in ("running", "pending"))


def send_rest(folder: str) -> None:
    """Send the unsent data in a run's folder, as `wandb sync` does.

    wandb client: before 0.30 it gives rows that were sent before new steps, and sends them twice. Offline
    runs have no such rows.
    """
    from wandb.cli import cli

    knows_what_was_sent = "parallelism" in [parameter.name for parameter in cli.sync.params]
    if not knows_what_was_sent and not Path(folder).name.startswith("offline-"):
        raise RuntimeError("this version of wandb can't tell what was sent already")
    with redirect_stderr(StringIO()) as said:
        cli.sync.main(["--include-online", "--include-synced", folder], standalone_mode=False)
    failures = [line for line in said.getvalue().splitlines() if "ERROR" in line and TORN not in line]
    if failures:
        raise RuntimeError("; ".join(failures))


def finish_sweep(path: SweepPath) -> None:
    """Set the sweep to finished, as `wandb sweep --stop` does, unless it has ended."""
    from wandb.cli import cli

    if end_reason(path) is None:
        cli.sweep.main(["--stop", str(path)], standalone_mode=False)


def _plain(configuration: Any) -> dict[str, Any]:
    """Return a configuration as plain values; older clients give it as YAML."""
    if isinstance(configuration, str):
        configuration = yaml.safe_load(configuration)
    return dict(configuration or {})


CHECK_LIMIT_S: Final = 10.0
ANSWER_CHARS: Final = 300
INSTEAD: Final = ', or use backend "local", which needs neither'
QUERY: Final = {"query": "query Viewer { viewer { id } }"}
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables from which `requests` itself reads trusted certificates."""


def connection_problem(credentials: Credentials, instead: str = INSTEAD) -> str | None:
    """Return why the server can't be used, with its address and its answer; None if it accepts the key.

    One quick request, since the wandb client waits minutes for an unreachable server. It goes through
    `requests` in the client's environment, as the client's own do, so HTTPS_PROXY, NO_PROXY and
    REQUESTS_CA_BUNDLE apply; SSL_CERT_FILE and SSL_CERT_DIR are read by wandb-core. `instead` is an
    alternative for the error message.
    """
    import requests
    import wandb.apis  # noqa: F401  # makes `requests` respect WANDB_INSECURE_DISABLE_SSL

    url = credentials.base_url
    try:
        with requests.Session() as session:
            answer = session.post(
                f"{url}/graphql",
                json=QUERY,
                auth=_auth(credentials),
                timeout=CHECK_LIMIT_S,
                verify=trusted(os.environ),
            )
    except (requests.RequestException, OSError, ValueError) as error:
        return f"{url} can't be reached: {_root(error)}; check WANDB_BASE_URL and the network{instead}"
    return None if answer.ok else _refusal(credentials, answer)


def trusted(environment: Mapping[str, str]) -> str | bool:
    """Return the trusted certificates for `requests`; True for its own default."""
    if any(environment.get(name) for name in _BUNDLES):
        return True
    names = (environment.get("SSL_CERT_FILE", ""), environment.get("SSL_CERT_DIR", ""))
    return next((name for name in names if name and Path(name).exists()), True)


def _auth(credentials: Credentials) -> Any:
    """Return the key as the client sends it; nothing without one, or `requests` would look for its own."""
    return ("api", credentials.key) if credentials.key else lambda request: request


def _refusal(credentials: Credentials, answer: requests.Response) -> str:
    body = " ".join(answer.text[:ANSWER_CHARS].split())
    what = "refuses the API key" if answer.status_code in (401, 403) else "answers"
    return (
        f"{credentials.base_url} {what}: HTTP {answer.status_code} {answer.reason}: {body}"
        f" (credentials from {credentials.source})"
    )


def _root(error: BaseException) -> BaseException:
    """Return the innermost cause of an error of `requests`."""
    inner = getattr(error, "reason", None) or error.__cause__ or (error.args[0] if error.args else None)
    return _root(inner) if isinstance(inner, BaseException) else error
