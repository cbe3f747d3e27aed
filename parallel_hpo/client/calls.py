"""What is asked of a sweep server through the wandb client: calls, each in a child of its own.

`wandb.Api()` and `wandb.sweep()` start a wandb-core in the process that calls them,
which would then live in the user's own process. Only functions in here import wandb.

Whether a W&B server can be reached and takes our key: one quick request, a call of its own.

The wandb client waits minutes for a server that is away, and says little then. The request
goes through `requests`, as the client's own do: it honours HTTPS_PROXY, NO_PROXY and
REQUESTS_CA_BUNDLE of the environment; SSL_CERT_FILE and SSL_CERT_DIR are what wandb-core
reads. So this runs in a child, whose environment is that of the client.
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
"""Where W&B puts a sweep without a project."""

FINISHED = "FINISHED"
OVER = {
    FINISHED: "the sweep is finished",
    "CANCELED": "the sweep was cancelled",
    "CANCELLED": "the sweep was cancelled",
}
"""States in which a sweep gives no more runs; a paused one may go on."""

GONE = "the sweep was deleted from its server"

SEND_LIMIT_S = 120.0
"""What a run left unsent may be large; no run waits for it, but the next question about the sweep does."""

TORN = "incomplete record"
"""What `wandb sync` says of a file whose writer was killed, when it has sent all that is whole in it."""


def open_sweep(order: SweepRequest) -> OpenedSweep:
    """Create the sweep by `wandb.sweep`, or find the one to be joined, and return where it is."""
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


def why_over(path: SweepPath) -> str:
    """Return why the sweep gives no more runs; '' while it goes on."""
    import wandb

    api: Any = wandb.Api()
    try:
        state = api.sweep(str(path)).state
    except (ValueError, wandb.errors.CommError) as error:
        # wandb client: a server that is away is a CommError too.
        if "could not find sweep" in str(error).lower():
            return GONE
        raise
    return OVER.get(state, "")


def state_of(path: str) -> str:
    """Return what the server calls the sweep's state."""
    import wandb

    api: Any = wandb.Api()
    return str(api.sweep(path).state)


def open_runs(path: SweepPath) -> tuple[str, ...]:
    """Return the ids of the sweep's runs that the server counts as running or waiting to be."""
    import wandb

    api: Any = wandb.Api()
    runs = api.runs(f"{path.entity}/{path.project}", filters={"sweep": path.sweep_id})
    return tuple(run.id for run in runs if run.state in ("running", "pending"))


def send_rest(folder: str) -> None:
    """Send what a run's client left unsent in the run's folder, as `wandb sync` does.

    Older clients than 0.30 would give rows that were sent before new steps, and so send them twice; of a
    run that was offline nothing was.
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
    """Set the sweep to finished, as `wandb sweep --stop` does, unless it is over already."""
    from wandb.cli import cli

    if not why_over(path):
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
"""Where `requests` itself looks for the certificates to be trusted."""


def why_out_of_reach(credentials: Credentials, instead: str = INSTEAD) -> str:
    """Return why the server is of no use, with its address and its answer; '' where it knows us.

    `instead` is what may be done where it can't be reached, besides looking for the reason.
    """
    import requests
    import wandb.apis  # noqa: F401  # lets `requests` heed WANDB_INSECURE_DISABLE_SSL

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
    return "" if answer.ok else _refusal(credentials, answer)


def trusted(environment: Mapping[str, str]) -> str | bool:
    """Return whose certificates are trusted, as `requests` takes it; True: as it finds them by itself."""
    if any(environment.get(name) for name in _BUNDLES):
        return True
    names = (environment.get("SSL_CERT_FILE", ""), environment.get("SSL_CERT_DIR", ""))
    return next((name for name in names if name and Path(name).exists()), True)


def _auth(credentials: Credentials) -> Any:
    """The key as the client sends it; without one nothing, for `requests` would look for one of its own."""
    return ("api", credentials.key) if credentials.key else lambda request: request


def _refusal(credentials: Credentials, answer: requests.Response) -> str:
    said = " ".join(answer.text[:ANSWER_CHARS].split())
    what = "refuses the API key" if answer.status_code in (401, 403) else "answers"
    return (
        f"{credentials.base_url} {what}: HTTP {answer.status_code} {answer.reason}: {said}"
        f" (credentials from {credentials.source})"
    )


def _root(error: BaseException) -> BaseException:
    """Return what an error of `requests` is about: it wraps those of the libraries below."""
    inner = getattr(error, "reason", None) or error.__cause__ or (error.args[0] if error.args else None)
    return _root(inner) if isinstance(inner, BaseException) else error
