"""The HTTP application: routes, their handlers, and the threads that do the work.

All writes of the database run in one thread, since SQLite has one writer anyway. Queries and pages run in
threads of their own, so that a long list delays no heartbeat; a query sees all earlier commits. Search models
have a thread too (`executing`). The event loop accepts, reads bodies and stops.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.storage import BLOBS, MANIFESTS, FilePermission, FileRef, FileTicket
from parallel_hpo.server.http import access
from parallel_hpo.server.http.access import Gate, caller_of, expect_supervisor
from parallel_hpo.server.http.connections import json_body, pieces, text_in, texts_in
from parallel_hpo.server.http.executing import ExecutorThreads, MakeExecutor, make_executor, run_in
from parallel_hpo.server.http.pool import pool_routes
from parallel_hpo.server.pages.browser_auth import BrowserAuth
from parallel_hpo.server.pages.routes import PageRoutes
from parallel_hpo.server.pages.sweep_data import FRESH_S
from parallel_hpo.server.removal import tidy
from parallel_hpo.server.services import file_stream, supervision
from parallel_hpo.server.services import pool as pool_service
from parallel_hpo.server.services.run_transitions import apply_timeouts
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store.database import UnavailableError
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, read_request

_log = logging.getLogger(__name__)
_TIMEOUTS_EVERY_S: Final = 10
"""Interval of the check for silent runs and agents, in seconds."""
TIDY_EVERY_S: Final = 1800.0
"""Interval of garbage collection, in seconds."""
_SWEEP: Final = "/hpo/sweeps/{entity}/{project}/{sweep}"
_ARTIFACT_FILE: Final = (
    "/artifactsV2/{region}/{entity}/{project}/{collection}/{birth:path}/{digest}/{name:path}"
)
"""wandb client: without a valid signed URL it fetches an artifact's file here, with its key. Only the digest
identifies the file."""
_MD5: Final = re.compile("[0-9a-f]{32}")
Result = TypeVar("Result")

_FAILURES: Final[Mapping[Any, Any]] = {
    RefusedError: access.refused,
    UnavailableError: access.unavailable,
    OSError: access.unavailable,
    ClientDisconnect: access.disconnected,
    Exception: access.failed,
}


def make_app(
    app: AppContext,
    *,
    host: str,
    tidy_every_s: float = TIDY_EVERY_S,
    pages_fresh_s: float = FRESH_S,
    make_executor: MakeExecutor = make_executor,
) -> Starlette:
    """Return the server's application; `host` is the address that it will be bound to.

    Pages are at most `pages_fresh_s` seconds behind the database.
    """
    pages = PageRoutes(app, fresh_s=pages_fresh_s)
    handlers = _Handlers(app, tidy_every_s, pages, make_executor)
    return Starlette(
        routes=[
            *handlers.routes(),
            *pool_routes(app, handlers.in_thread, handlers.flush),
            *pages.acts(handlers.change),
            *pages.routes(),
        ],
        middleware=[
            Middleware(
                Gate,
                master_key=app.master_key,
                host=host,
                auth=BrowserAuth(app.master_key, app.clock),
                is_alive=partial(pool_service.is_alive, app),
            )
        ],
        exception_handlers=_FAILURES,
        lifespan=handlers.lifespan,
    )


class _Handlers:
    """One method per route."""

    def __init__(
        self, app: AppContext, tidy_every_s: float, pages: PageRoutes, make_executor: MakeExecutor
    ) -> None:
        self._app = app
        self._pages = pages
        self._tidy_every_s = tidy_every_s
        self._is_ending = False
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._executing = ExecutorThreads(app, self._writer, make_executor)

    def routes(self) -> list[Route]:
        return [
            Route("/graphql", self.graphql, methods=["POST"]),
            Route("/files/{entity}/{project}/{run}/file_stream", self.file_stream, methods=["POST"]),
            Route("/uploads/{folder}/{name:path}", self.upload, methods=["PUT"]),
            Route("/downloads/{folder}/{name:path}", self.download, methods=["GET"]),
            Route(_ARTIFACT_FILE, self.artifact_file, methods=["GET"]),
            Route("/hpo/health", self.health),
            Route(_SWEEP, self.progress),
            Route(f"{_SWEEP}/steps", self.steps),
            Route(f"{_SWEEP}/without-own-word", self.unconfirmed_runs),
            Route(f"{_SWEEP}/release", self.release, methods=["POST"]),
            Route(f"{_SWEEP}/state", self.set_state, methods=["POST"]),
            Route(f"{_SWEEP}/runs/{{run}}/end", self.end_run, methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        works = (self._apply_timeouts_forever, self._tidy_forever, self._executing.prepare)
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            yield
        finally:
            self._is_ending = True
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._writer.shutdown(wait=False, cancel_futures=True)
            self._executing.close()
            self._pages.close()

    async def graphql(self, request: Request) -> Response:
        wanted = read_request(await json_body(request))
        response, must_last = await self._executing.answer(caller_of(request), wanted)
        if must_last:
            await self.flush()
        return response

    async def file_stream(self, request: Request) -> Response:
        names = request.path_params
        path = RunPath(names["entity"], names["project"], names["run"])
        chunk = file_stream.read_chunk(await json_body(request))
        app = self._app.seen_by(caller_of(request))
        stop = await self.in_thread(file_stream.receive, app, path, chunk)
        if chunk.exitcode is not None:
            await self.flush()
        return JSONResponse({"exitcode": None, "limits": {}} | ({"stopped": True} if stop else {}))

    async def upload(self, request: Request) -> Response:
        file_ref = _allowed(self._app, request, FilePermission.SEND)
        stored = await run_files.store(self._app, file_ref, pieces(request))
        if file_ref.folder not in (BLOBS, MANIFESTS):
            await self.in_thread(run_files.record_upload, self._app, file_ref, stored)
        return Response(status_code=200)

    async def download(self, request: Request) -> Response:
        return self._file(_allowed(self._app, request, FilePermission.FETCH))

    async def artifact_file(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        if not _MD5.fullmatch(digest):
            raise RefusedError(f"the digest {digest[:40]!r} is not an MD5", status=400)
        return self._file(FileRef(BLOBS, digest))

    def _file(self, file_ref: FileRef) -> Response:
        path = file_ref.path_in(self._app.files)
        if not path.is_file():
            raise RefusedError("this file doesn't exist, or was deleted", status=404)
        # Never as a page: a file that a run stored must not run scripts in a user's browser.
        headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
        return FileResponse(path, media_type="application/octet-stream", headers=headers)

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "server": "parallel_hpo"})

    async def progress(self, request: Request) -> Response:
        at = _supervised(request)
        return JSONResponse(asdict(await self.in_thread(supervision.progress, self._app, at)))

    async def steps(self, request: Request) -> Response:
        at = _supervised(request)
        return JSONResponse(await self.in_thread(supervision.steps, self._app, at))

    async def unconfirmed_runs(self, request: Request) -> Response:
        at = _supervised(request)
        return JSONResponse(await self.in_thread(supervision.unconfirmed_runs, self._app, at))

    async def release(self, request: Request) -> Response:
        at = _supervised(request)
        body = await json_body(request)
        prefix, keep = text_in(body, "label_prefix"), texts_in(body, "keep")
        released = await self.change(supervision.release, at, prefix, keep)
        return JSONResponse({"released": released})

    async def set_state(self, request: Request) -> Response:
        at = _supervised(request)
        state = text_in(await json_body(request), "state")
        return JSONResponse({"state": await self.change(supervision.set_state, at, state)})

    async def end_run(self, request: Request) -> Response:
        at = _supervised(request)
        state = text_in(await json_body(request), "state")
        run = request.path_params["run"]
        return JSONResponse({"state": await self.change(supervision.end_run, at, run, state)})

    async def change(self, work: Callable[..., Result], *args: Any) -> Result:
        """Run `work` in the database's thread, and return once its commit is on the disk."""
        result = await self.in_thread(work, self._app, *args)
        await self.flush()
        return result

    async def flush(self) -> None:
        """Wait until all commits are on the disk, outside the database's thread.

        What a supervisor counts after our answer must survive a power cut: a sweep's creation, an issued run,
        a run's end. Lines before an end are on the disk with it.
        """
        await asyncio.to_thread(self._app.database.flush)

    async def in_thread(self, work: Callable[..., Result], *args: Any) -> Result:
        """Run `work` in the database's thread, after all earlier work."""
        return await run_in(self._writer, work, *args)

    async def _apply_timeouts_forever(self) -> None:
        up_since = self._app.clock()
        while True:
            await asyncio.sleep(_TIMEOUTS_EVERY_S)
            try:
                timed_out = await self.in_thread(lambda: apply_timeouts(self._app, up_since=up_since))
            except Exception:  # noqa: BLE001  # an edge: the server goes on, and looks again
                _log.exception("could not check for silent runs")
            else:
                for name in timed_out:
                    _log.warning("run %s: timed out", name)

    async def _tidy_forever(self) -> None:
        while True:
            await asyncio.sleep(self._tidy_every_s)
            try:  # outside the database's thread: it lists many files
                await asyncio.to_thread(tidy, self._app, lambda: not self._is_ending)
            except Exception:  # noqa: BLE001  # an edge: the server goes on, and looks again
                _log.exception("could not collect garbage")


def _allowed(app: AppContext, request: Request, permission: FilePermission) -> FileRef:
    """Return the file of a signed URL; RefusedError (403) for an invalid or expired one."""
    query, names = request.query_params, request.path_params
    expires = query.get("expires", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
        raise RefusedError("this file's address is invalid", status=403)
    file_ref = FileRef.from_path(names["folder"], names["name"])
    run_files.check_ticket(app, FileTicket(permission, file_ref, int(expires)), query.get("signature", ""))
    return file_ref


def _supervised(request: Request) -> SweepAt:
    """Return the sweep of a request that only its supervisors may send; RefusedError (403) for others."""
    names = request.path_params
    expect_supervisor(caller_of(request), names["sweep"])
    return SweepAt(names["entity"], names["project"], names["sweep"])
