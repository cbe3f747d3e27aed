"""URLs of the pages, as W&B's client prints them, of their data, and of the files of runs.

Requests are answered in threads of their own, so that pages don't delay heartbeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from parallel_hpo.config.sweep_types import Goal, Metric
from parallel_hpo.core.values import strict
from parallel_hpo.server import engines
from parallel_hpo.server.context import AppContext, Caller
from parallel_hpo.server.pages import answers, projects, run_files, timeline
from parallel_hpo.server.pages.actions import Actions, Change
from parallel_hpo.server.pages.answers import RecentAnswers
from parallel_hpo.server.pages.histories import CurveQuery, Histories
from parallel_hpo.server.pages.run_data import head_of as head_of_run
from parallel_hpo.server.pages.run_data import log_part, log_text, media_by_step, run_at, run_data
from parallel_hpo.server.pages.sweep_data import FRESH_S, SummaryChoice, Sweeps, head_of, sweep_at
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

_MAX_LOGGED: Final = 50
"""Maximum number of logged values that are columns of a table."""
_READERS: Final = 2
"""Reader threads: two, so that a slow request delays no fast one; more would delay heartbeats."""
_CHARTS_STALER: Final = 4
"""Maximum age of chart data, as a multiple of that of tables."""
_POINTS: Final = 500
"""Default number of points of a curve in a chart of several runs."""
_POINTS_OF_ONE: Final = 2000
"""Default number of points of a single run's curve."""
_DATA: Final = "/pages/data"
_PROJECT: Final = "/{entity}/{project}"
_SWEEP: Final = "/{entity}/{project}/sweeps/{sweep}"
_RUN: Final = "/{entity}/{project}/runs/{run}"
_ARTIFACT: Final = f"{_DATA}{_RUN}/artifacts/{{artifact:int}}"


class PageRoutes:
    """Request handlers of the pages, one method for each kind of URL."""

    def __init__(self, world: AppContext, *, fresh_s: float = FRESH_S) -> None:
        self._world = world
        self._sweeps = Sweeps(fresh_s)
        self._cards = projects.SweepCards()
        self._curves = Histories(repeated=self._sweeps.repeated)
        self._recent = RecentAnswers(_CHARTS_STALER * fresh_s)
        self._readers = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="pages")

    def close(self) -> None:
        """Finish the current reads and start no more; the database may be closed after this."""
        self._curves.close()
        self._readers.shutdown(cancel_futures=True)

    def acts(self, change: Change) -> list[Route]:
        """Return the routes that change something; `change` runs them in the database's thread."""
        acts = Actions(self._world, change)
        return [
            Route(f"/pages/act{_SWEEP}", acts.on_sweep, methods=["POST"]),
            Route(f"/pages/act{_RUN}", acts.on_run, methods=["POST"]),
        ]

    def routes(self) -> list[Route]:
        """Return all routes that only read, the most specific ones first."""
        pages: list[tuple[str, Callable[[Request], Response]]] = [
            ("/favicon.ico", self._icon),
            ("/pages/static/{version}/{name:path}", self._static),
            (f"{_DATA}{_SWEEP}.csv", self._sweep_csv),
            (f"{_DATA}{_SWEEP}/histories", self._histories),
            (f"{_DATA}{_SWEEP}/timeline", self._timeline),
            (f"{_DATA}{_SWEEP}/configuration", self._configuration),
            (f"{_DATA}{_SWEEP}", self._sweep_data),
            (f"{_DATA}{_RUN}/history", self._history),
            (f"{_DATA}{_RUN}/log.txt", self._log_text),
            (f"{_DATA}{_RUN}/log", self._log),
            (f"{_DATA}{_RUN}/media", self._media),
            (f"{_DATA}{_RUN}/files/{{name:path}}", self._file),
            (f"{_DATA}{_RUN}/media/{{name:path}}", self._picture),
            (f"{_DATA}{_RUN}/table/{{name:path}}", self._table),
            (f"{_DATA}{_RUN}/text/{{name:path}}", self._text),
            (f"{_ARTIFACT}/files/{{name:path}}", self._file),
            (f"{_ARTIFACT}/text/{{name:path}}", self._text),
            (_ARTIFACT, self._artifact),
            (f"{_DATA}{_RUN}", self._run_data),
            (f"{_DATA}{_PROJECT}", self._project_data),
            (f"{_DATA}/sweeps", self._home_data),
            ("/", self._home),
            (_SWEEP, self._sweep),
            (_RUN, self._run),
            (f"{_RUN}/{{rest:path}}", self._to_run),
            (_PROJECT, self._project),
            (f"{_PROJECT}/{{rest:path}}", self._to_project),
        ]
        return [Route(path, self._in_thread(answer), methods=["GET"]) for path, answer in pages]

    def _in_thread(self, answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await asyncio.get_running_loop().run_in_executor(self._readers, answer, request)

        return endpoint

    def _soon(self, read: Callable[..., None], *what: Any) -> None:
        """Read ahead what the page will request: its browser takes half a second to do so."""
        self._readers.submit(read, *what)

    # --- static files ------------------------------------------------------------------

    def _icon(self, _request: Request) -> Response:
        return answers.guarded(answers.file("favicon.svg"))

    def _static(self, request: Request) -> Response:
        return answers.guarded(answers.file(request.path_params["name"]))

    # --- pages -------------------------------------------------------------------------

    def _home(self, request: Request) -> Response:
        with self._seen_by(request).database.read() as transaction:
            return answers.html("home.html", projects=projects.all_of(transaction), base=f"{_DATA}/sweeps")

    def _project(self, request: Request) -> Response:
        names = request.path_params
        with self._seen_by(request).database.read() as transaction:
            project = projects.project_at(transaction, names["entity"], names["project"])
        return answers.html(
            "project.html", project=project, base=_DATA + answers.address(project.entity, project.name)
        )

    def _to_project(self, request: Request) -> Response:
        """Redirect a W&B address that has no page here to the project's page."""
        names = request.path_params
        return answers.guarded(RedirectResponse(answers.address(names["entity"], names["project"]), 303))

    def _sweep(self, request: Request) -> Response:
        with self._seen_by(request).database.read() as transaction:
            head = head_of(sweep_at(transaction, _sweep_in(request)))
        if head["metric"] is not None:
            name = head["metric"]["name"]
            self._soon(self._curves.expect_sweep, self._seen_by(request), _sweep_in(request), name)
        home = answers.address(head["entity"], head["project"])
        base = _DATA + answers.address(head["entity"], head["project"], "sweeps", head["id"])
        return answers.html("sweep.html", sweep=head, home=home, base=base, csv=f"{base}.csv")

    def _run(self, request: Request) -> Response:
        with self._seen_by(request).database.read() as transaction:
            run = head_of_run(run_at(transaction, _run_in(request)))
        self._soon(self._curves.expect_run, self._seen_by(request), _run_in(request))
        home = answers.address(run["entity"], run["project"])
        base = _DATA + answers.address(run["entity"], run["project"], "runs", run["id"])
        return answers.html("run.html", run=run, home=home, base=base)

    def _to_run(self, request: Request) -> Response:
        """Redirect one of W&B's tabs of a run (`/overview`, `/logs`) to the run's page."""
        at = _run_in(request)
        address = answers.address(at.entity, at.project, "runs", at.name)
        return answers.guarded(RedirectResponse(address, 303))

    # --- their data --------------------------------------------------------------------

    def _home_data(self, request: Request) -> Response:
        with self._seen_by(request).database.read() as transaction:
            return answers.json(request, answers.dump({"sweeps": self._cards.of(transaction, None)}))

    def _configuration(self, request: Request) -> Response:
        with self._seen_by(request).database.read() as transaction:
            sweep = sweep_at(transaction, _sweep_in(request))
        return answers.json(request, answers.dump(strict(engines.dotted_of(sweep.config))))

    def _project_data(self, request: Request) -> Response:
        names, world = request.path_params, self._seen_by(request)
        with world.database.read() as transaction:
            project = projects.project_at(transaction, names["entity"], names["project"])
            sweeps = self._cards.of(transaction, project)
        since = request.query_params.get("since", "")
        return answers.json(request, self._sweeps.project_json(world, project, sweeps, since))

    def _sweep_data(self, request: Request) -> Response:
        since, choice = request.query_params.get("since", ""), _choice_in(request)
        body = self._sweeps.sweep_json(self._seen_by(request), _sweep_in(request), since, choice)
        return answers.json(request, body)

    def _sweep_csv(self, request: Request) -> Response:
        at = _sweep_in(request)
        body = self._sweeps.sweep_csv(self._seen_by(request), at, _choice_in(request))
        headers = {"Content-Disposition": f'attachment; filename="{at.sweep}.csv"'}
        return answers.guarded(Response(body, media_type="text/csv", headers=headers))

    def _histories(self, request: Request) -> Response:
        names = [name for name in request.query_params.get("runs", "").split(",") if name]
        query = CurveQuery.read(request.query_params, _POINTS)
        at, world = _sweep_in(request), self._seen_by(request)
        return self._shared(
            request, (at, query, *names), lambda: self._curves.of_sweep(world, at, names, query)
        )

    def _timeline(self, request: Request) -> Response:
        at, world = _sweep_in(request), self._seen_by(request)
        return self._shared(request, at, lambda: answers.dump(timeline.timeline(world, at)))

    def _run_data(self, request: Request) -> Response:
        data = run_data(self._seen_by(request), _run_in(request))
        return answers.json(request, answers.dump(data))

    def _history(self, request: Request) -> Response:
        query = CurveQuery.read(request.query_params, _POINTS_OF_ONE)
        return answers.json(request, self._curves.of_run(self._seen_by(request), _run_in(request), query))

    def _log(self, request: Request) -> Response:
        data = log_part(self._seen_by(request), _run_in(request), _after_in(request))
        return answers.json(request, answers.dump(data))

    def _log_text(self, request: Request) -> Response:
        at = _run_in(request)
        return answers.guarded(
            run_files.download_text(log_text(self._seen_by(request), at), f"{at.name}.log")
        )

    def _media(self, request: Request) -> Response:
        data = media_by_step(self._seen_by(request), _run_in(request), _after_in(request) or 0)
        return answers.json(request, answers.dump(strict(data)))

    def _file(self, request: Request) -> Response:
        return answers.guarded(run_files.download(self._path_of(request)))

    def _text(self, request: Request) -> Response:
        return answers.json(request, answers.dump({"text": run_files.text(self._path_of(request)[0])}))

    def _picture(self, request: Request) -> Response:
        return answers.guarded(run_files.picture(self._path_of(request)))

    def _table(self, request: Request) -> Response:
        data = run_files.table(self._path_of(request)[0])
        return answers.json(request, answers.dump(strict(data)))

    def _artifact(self, request: Request) -> Response:
        at, number = _run_in(request), request.path_params["artifact"]
        return answers.json(request, answers.dump(run_files.artifact(self._seen_by(request), at, number)))

    def _path_of(self, request: Request) -> tuple[Path, str]:
        """Return the requested file of a run or of one of its artifacts, and its name."""
        names = request.path_params
        at, name, number = _run_in(request), names["name"], names.get("artifact")
        return run_files.path_of(self._seen_by(request), at, name, number), name

    def _shared(self, request: Request, question: Hashable, make: Callable[[], bytes]) -> Response:
        """Compute an answer once for all pages with the same revision and the same access rights."""
        asked = (request.state.caller.sweep, request.query_params.get("seen", ""), question)
        return answers.json(request, self._recent.answer(asked, make))

    def _seen_by(self, request: Request) -> AppContext:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise RefusedError("this needs a key, or a browser that is logged in", status=401)
        return self._world.seen_by(caller)


def _after_in(request: Request) -> int | None:
    """Return the number of the line from which a page asks for lines; None: it has none yet."""
    after = request.query_params.get("after", "")
    return int(after) if after.isascii() and after.isdigit() and len(after) < 10 else None


def _sweep_in(request: Request) -> SweepAt:
    names = request.path_params
    return SweepAt(names["entity"], names["project"], names["sweep"])


def _choice_in(request: Request) -> SummaryChoice:
    given = request.query_params
    goal = Goal.MAXIMIZE if given.get("goal") == "maximize" else Goal.MINIMIZE
    compared = Metric(given["metric"], goal) if given.get("metric") else None
    return SummaryChoice(compared, tuple(sorted(set(given.getlist("logged")))[:_MAX_LOGGED]))


def _run_in(request: Request) -> RunPath:
    names = request.path_params
    return RunPath(names["entity"], names["project"], names["run"])
