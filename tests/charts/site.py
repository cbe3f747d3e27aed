"""Charts on a test page, served with the policy and data addresses of the real pages."""

from __future__ import annotations

import json
import mimetypes
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from parallel_hpo.server.pages import answers
from tests.charts.scene import Scene
from tests.threads import answering_in_a_thread

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
CHARTS: Final = ("parallel", "best", "importance", "contour", "scatter", "timeline", "histories")
HEAD: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Charts</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/pages.css"><link rel="stylesheet" href="/static/charts.css">
<script type="module" src="SCRIPT"></script></head><body><main id="main"><h1>Charts</h1>"""
SWEEP_SCRIPT: Final = """
import { mountSweep } from "./charts/index.js";
import { Store } from "./store.js";
const store = new Store();
const draw = (json) => {
  const begun = performance.now();
  store.merge(json);
  mountSweep(document.body, store, "/data");
  Object.assign(window, { store, mounted_ms: performance.now() - begun });
};
fetch("/data").then((answer) => answer.json()).then(draw);
"""
RUN_SCRIPT: Final = """
import { mountRun } from "./charts/run.js";
const lines = { history_lines: 100, event_lines: 10 };
window.data = { keys: ["loss", "accuracy"], system_keys: ["cpu"], run: lines };
mountRun(document.body, data, "/data/run");
"""


@contextmanager
def serving(scene: Scene) -> Iterator[str]:
    """Serve a scene's charts; yields the address: `/` has those of the sweep, `/run` those of a run."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(scene, self.path)
            self.send_response(404 if found is None else 200)
            kind, body = found or ("text/plain", b"")
            for name, value in (("Content-Type", kind), ("Content-Security-Policy", POLICY)):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the browser may have left the page
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with answering_in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@cache  # each test asks for the same
def answer(scene: Scene, target: str) -> tuple[str, bytes] | None:
    """Return the type and the body of the response at an address, or None."""
    address = urlsplit(target)
    asked = {name: values[0] for name, values in parse_qs(address.query).items()}
    texts = {"/": sweep_page(), "/run": run_page()}
    scripts = {"/sweep.js": SWEEP_SCRIPT, "/run.js": RUN_SCRIPT}
    if address.path in texts:
        return "text/html", texts[address.path].encode()
    if address.path in scripts:
        return "text/javascript", joined(scripts[address.path]).encode()
    if address.path.startswith("/data"):
        return "application/json", json.dumps(data(scene, address.path, asked)).encode()
    file = answers.FOLDER / address.path.removeprefix("/static/")
    if not file.is_file():
        return None
    return mimetypes.guess_type(file.name)[0] or "text/plain", file.read_bytes()


def joined(script: str) -> str:
    """Return a script bundled with its imports, as on a real page: one request instead of thirty."""
    with TemporaryDirectory() as folder:
        shutil.copytree(answers.FOLDER, folder, dirs_exist_ok=True)
        (Path(folder) / "whole.js").write_text(script)
        return answers.script(Path(folder), "whole.js")


def data(scene: Scene, path: str, asked: dict[str, str]) -> dict[str, Any]:
    """Return the response of a data address."""
    points = int(asked.get("points", "500"))
    if path == "/data/timeline":
        return scene.timeline()
    if path == "/data/run/history":
        return scene.history(asked["key"], asked["x"], points)
    if path == "/data/histories":
        ids = asked["runs"].split(",") if "runs" in asked else None
        return scene.histories(asked["key"], asked["x"], points, ids)
    return scene.sweep()


def sweep_page() -> str:
    """Return a page with a placeholder for each chart of a sweep."""
    sections = "".join(
        f'<figure class="chart" data-chart="{name}" aria-label="{name}"></figure>' for name in CHARTS
    )
    return HEAD.replace("SCRIPT", "/sweep.js") + sections + "</main></body></html>"


def run_page() -> str:
    """Return a page with placeholders for the charts of a run."""
    sections = "".join(
        f'<section data-charts="{name}"><h2>{name}</h2></section>' for name in ("run", "system")
    )
    return HEAD.replace("SCRIPT", "/run.js") + sections + "</main></body></html>"
