"""A sweep as one HTML file that needs no server: the scripts and styles of the pages, and its data.

The data have the pages' format and come from a server's database. The file's content security policy allows
its own script only and loads nothing. The table of runs is also plain HTML, for readers without scripts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages import answers
from parallel_hpo.server.pages import timeline as timelines
from parallel_hpo.server.pages.histories import MOST_RUNS, CurveQuery, Histories
from parallel_hpo.server.pages.metric_series import Curve
from parallel_hpo.server.pages.sweep_data import SummaryChoice, Sweeps, names_logged
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import sweeps

_MAX_POINTS_IN_ALL: Final = 250_000
"""Maximum points of all histories together: 1 to 1.7 MB compressed."""
_MAX_KEYS: Final = 12
_MIN_POINTS: Final = 20
_MAX_POINTS: Final = 1000
_AXES: Final = ("step", "time")
_DIGITS: Final = 5

_STYLES: Final = ("pages.css", "charts.css", "workspace.css")
_SCRIPT: Final = "report.js"
_MAX_ROWS: Final = 1000
"""Maximum rows of the table that needs no script."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A sweep's data in the format of the pages."""

    sweep: dict[str, Any]
    histories: list[dict[str, Any]]
    timeline: dict[str, Any]
    note: str = ""
    """What is missing in it, and why; '' if nothing is."""


def read(world: AppContext, sweep_id: str) -> Contents | None:
    """Return the data of a sweep from the database; None if it has no such sweep."""
    with world.database.read() as transaction:
        found = sweeps.find(transaction, sweep_id)
        if found is None:
            return None
        logged = names_logged(transaction, found)[:_MAX_KEYS]
    at = SweepAt(found.entity, found.project, found.id)
    data = Sweeps(fresh_s=0).sweep_json(world, at, "", SummaryChoice(logged=logged))
    sweep = json.loads(data) | {"logged": list(logged)}
    return Contents(sweep, list(_histories(world, at, sweep)), timelines.timeline(world, at))


def _histories(world: AppContext, at: SweepAt, sweep: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the curves of each key over each axis, within the limit of points."""
    names = best_first(sweep)[:MOST_RUNS]
    metric = (sweep["sweep"]["metric"] or {}).get("name")
    keys = sorted(sweep["keys"], key=lambda key: key != metric)[:_MAX_KEYS]
    points = _points_of(len(names) * len(keys) * len(_AXES))
    again = [
        name
        for name, number in zip(sweep["runs"]["id"], sweep["runs"]["attempts"], strict=True)
        if number > 1
    ]
    curves = Histories(repeated=lambda _world, _at: again)
    for key in keys:
        for axis in _AXES:
            yield _rounded(json.loads(curves.of_sweep(world, at, names, CurveQuery(key, axis, points))))


def courses(world: AppContext, sweep_id: str, names: list[str], key: str) -> dict[str, Curve]:
    """Return what runs logged under a key, over their steps, by the runs' names; no run without points."""
    with world.database.read() as transaction:
        found = sweeps.find(transaction, sweep_id)
    if found is None:
        return {}
    at = SweepAt(found.entity, found.project, found.id)
    histories, query = Histories(), CurveQuery(key, "step", _points_of(len(names)))
    read: dict[str, Curve] = {}
    for place in range(0, len(names), MOST_RUNS):
        read |= histories.curves(world, at, names[place : place + MOST_RUNS], query)
    return {name: curve for name, curve in read.items() if len(curve.x)}


def _points_of(curves: int) -> int:
    """Return the number of points for each of `curves` curves."""
    return max(_MIN_POINTS, min(_MAX_POINTS, _MAX_POINTS_IN_ALL // max(1, curves)))


def best_first(sweep: dict[str, Any]) -> list[str]:
    """Return the ids of a sweep's runs, best first; runs without a value come last."""
    sign = -1.0 if (sweep["sweep"]["metric"] or {}).get("goal") == "maximize" else 1.0
    ids, values = sweep["runs"]["id"], sweep["runs"]["value"]
    places = [float("inf") if value is None else sign * value for value in values]
    return [name for _, name in sorted(zip(places, ids, strict=True))]


def _rounded(answer: dict[str, Any]) -> dict[str, Any]:
    """Return curves rounded to the digits that a picture can show."""
    return answer | {
        "runs": [
            {
                name: [_short(value) for value in values] if isinstance(values, list) else values
                for name, values in run.items()
            }
            for run in answer["runs"]
        ]
    }


def _short(value: float | int) -> float | int:
    if isinstance(value, int):
        return value
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def document(contents: Contents, made_at: float) -> str:
    """Return a report of a sweep; `made_at` in seconds since the epoch."""
    script, style = answers.script(answers.FOLDER, _SCRIPT), answers.style(answers.FOLDER, *_STYLES)
    return answers.rendered(
        "report.html",
        sweep=contents.sweep["sweep"],
        facts=dict(_facts(contents.sweep)),
        made=datetime.fromtimestamp(made_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        note=contents.note,
        policy=_policy(script, style),
        script=script,
        style=style,
        data=_embedded({"sweep": contents.sweep, "timeline": contents.timeline}),
        histories=_packed(contents.histories),
        has_histories=bool(contents.histories),
        columns=["run", "state", "value", *(contents.sweep["runs"]["parameters"])],
        rows=list(_rows(contents.sweep))[:_MAX_ROWS],
    )


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)};"
        " img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: Any) -> str:
    """Return JSON in which no text can end the script element around it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").encode(errors="replace").decode()


def _packed(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _facts(sweep: dict[str, Any]) -> Iterator[tuple[str, str]]:
    head, runs = sweep["sweep"], sweep["runs"]
    yield "state", str(head["state"] or "not known").lower()
    yield "runs", f"{len(runs['id'])}" + ("" if head["count"] is None else f" of {head['count']}")
    counted = Counter(runs["state"])
    yield "outcomes", ", ".join(f"{number} {state}" for state, number in counted.items()) or "none yet"
    yield "best", _best(sweep)
    if head["used"]:
        yield "used", head["used"]
    yield "method", head["method"] or "not known"


def _best(sweep: dict[str, Any]) -> str:
    metric, best = sweep["sweep"]["metric"], sweep["best"]
    if metric is None or best is None:
        return "none"
    value = sweep["runs"]["value"][sweep["runs"]["id"].index(best)]
    return f"{metric['name']} = {_words(value)} (run {best})"


def _rows(sweep: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of each run, best first."""
    runs = sweep["runs"]
    place = {name: number for number, name in enumerate(runs["id"])}
    for name in best_first(sweep):
        row = place[name]
        given = [column[row] for column in runs["parameters"].values()]
        yield [name, runs["state"][row], *(_words(value) for value in (runs["value"][row], *given))]


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
