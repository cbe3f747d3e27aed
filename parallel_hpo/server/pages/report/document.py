"""A report's HTML: one file, whose policy lets only its own script run, and nothing come from elsewhere.

The table of runs stands in it as HTML, too, so that it can be read where scripts don't run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

from parallel_hpo.server.pages import answers, linking, static
from parallel_hpo.server.pages.report.contents import Contents, best_first

_STYLES: Final = ("pages.css", "charts.css")
_SCRIPT: Final = "report.js"
_MOST_ROWS: Final = 1000
"""So many rows are there without the script."""


def document(contents: Contents, made_at: float) -> str:
    """Return a report of a sweep; `made_at` in seconds since the epoch."""
    script, style = linking.script(static.FOLDER, _SCRIPT), linking.style(static.FOLDER, *_STYLES)
    return answers.rendered(
        "report.html",
        sweep=contents.sweep["sweep"],
        facts=dict(_facts(contents.sweep)),
        made=datetime.fromtimestamp(made_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        note=contents.note,
        policy=_policy(script, style),
        script=Markup(script),  # ours: nothing of a run is in it
        style=Markup(style),
        data=Markup(_embedded({"sweep": contents.sweep, "timeline": contents.timeline})),
        histories=_packed(contents.histories),
        has_histories=bool(contents.histories),
        columns=["run", "state", "value", *(contents.sweep["runs"]["parameters"])],
        rows=list(_rows(contents.sweep))[:_MOST_ROWS],
    )


def _policy(script: str, style: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: Any) -> str:
    """Return JSON that HTML takes for text, whatever stands in it: a script can't end in its midst."""
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
    """Yield the cells of each run, the best one first."""
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
