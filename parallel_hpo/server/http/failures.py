"""The one place where errors become answers."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from parallel_hpo.server.http.access import log_refusal
from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages.entrance import wants_html
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.world import Caller

_log = logging.getLogger(__name__)


def _error(message: str, status: int) -> Response:
    # Public API clients read `errors`, wandb-core reads `error`.
    return JSONResponse({"data": None, "errors": [{"message": message}], "error": message}, status)


async def refused(request: Request, error: Exception) -> Response:
    """Answer what was asked in a wrong way, a person by a page."""
    assert isinstance(error, RefusedError)
    if error.status == 403:
        log_refusal(request.scope, 403, str(error))
    caller: Caller | None = getattr(request.state, "caller", None)
    if wants_html(request.scope):
        return answers.html("missing.html", error.status, why=str(error))
    if caller is not None and caller.sweep is not None and "doesn't exist" in str(error):
        return _error(f"{error}, or is not in sweep {caller.sweep}, whose key this is", error.status)
    return _error(str(error), error.status)


async def unavailable(_request: Request, error: Exception) -> Response:
    """Answer what the client tries again: the database is busy, or the disk is full."""
    _log.warning("can't answer now: %s", error)
    return _error(f"the server can't answer now: {error}", 503)


async def failed(request: Request, error: Exception) -> Response:
    """Answer where the fault is ours."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(f"the server failed: {type(error).__name__}", 500)
