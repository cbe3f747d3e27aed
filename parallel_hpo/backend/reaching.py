"""Whether a W&B server can be reached and takes our key: one quick request, a call of its own.

The wandb client waits minutes for a server that is away, and says little then. The request
goes through `requests`, as the client's own do: it honours HTTPS_PROXY, NO_PROXY and
REQUESTS_CA_BUNDLE of the environment; SSL_CERT_FILE and SSL_CERT_DIR are what wandb-core
reads. So this runs in a child, whose environment is that of the client.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.backend.credentials import Credentials

if TYPE_CHECKING:
    import requests

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
