"""The data of pages: runs as columns, changes since a revision, curves that keep spikes, stored files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from parallel_hpo.core.keys import SUPERVISOR, worker_key
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.pages.histories import CurveQuery, Histories
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import files, lines
from parallel_hpo.server.store.files import File
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from tests.server.application import Web
from tests.server.server_logic import MASTER_KEY, START, Services, grid

DATA = "/pages/data/local/p"


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    """A client with the master key that sees new data at once."""
    with Web(services, pages_fresh_s=0.0) as web:
        yield web


@pytest.fixture
def name(services: Services) -> str:
    """A run that has begun."""
    return services.begun(services.sweep(grid(1)))


def seen(web: Web, path: str, **query: Any) -> Any:
    answer = web.get(f"{DATA}/{path}".rstrip("/"), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def curve(web: Web, name: str, key: str = "loss", **query: Any) -> tuple[list[float], list[float]]:
    told = seen(web, f"runs/{name}/history", key=key, **query)["points"]
    return told["x"], told["y"]


def test_a_sweep_is_sent_as_columns_and_listed_in_its_project(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep, "mark_1_7")
    first = services.issued(agent)
    services.finish(sweep, first, loss=0.5)
    second = services.issued(agent)
    told = seen(web, f"sweeps/{sweep}")
    assert (told["complete"], told["best"]) == (True, first)
    assert (told["sweep"]["count"], told["sweep"]["metric"]) == (3, {"name": "loss", "goal": "minimize"})
    columns = told["runs"]
    assert (columns["id"], columns["state"]) == ([first, second], ["finished", "pending"])
    assert (columns["value"], columns["worker"]) == ([0.5, None], ["host/1", "host/1"])
    assert columns["parameters"] == {"x": [0, 1]}
    (axis,) = told["parameters"]
    assert (axis["name"], axis["kind"], axis["varied"]) == ("x", "integer", True)
    project = seen(web, "")
    (card,) = project["sweeps"]
    assert (card["id"], card["best"], card["runs"]) == (sweep, 0.5, {"finished": 1, "pending": 1})
    assert (project["runs"]["id"], project["runs"]["sweep"]) == ([first, second], [sweep, sweep])


def test_only_changed_runs_are_sent_after_a_revision(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    name = services.issued(agent)
    revision = seen(web, f"sweeps/{sweep}")["revision"]
    nothing = seen(web, f"sweeps/{sweep}", since=revision)
    assert (nothing["complete"], nothing["runs"]["id"]) == (False, [])
    services.start(sweep, name)
    services.log(name, 0.25, summary={"loss": 0.25})
    news = seen(web, f"sweeps/{sweep}", since=revision)
    assert (news["runs"]["id"], news["runs"]["state"], news["runs"]["value"]) == ([name], ["running"], [0.25])
    assert [card["best"] for card in seen(web, "")["sweeps"]] == [1.0]  # of the finished run
    services.finish(sweep, name, loss=0.125)
    assert [card["best"] for card in seen(web, "")["sweeps"]] == [0.125]
    third = services.issued(agent)
    news = seen(web, f"sweeps/{sweep}", since=news["revision"])
    assert (news["runs"]["id"], news["runs"]["value"]) == ([name, third], [0.125, None])
    assert news["best"] == name


def test_runs_can_be_compared_by_any_number_in_their_summaries(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(4))
    summaries = ('{"acc": 0.5, "loss": 1}', '{"acc": 0.75, "loss": NaN}', '{"acc": "?"}')
    names = [services.begun(sweep) for _ in summaries]
    for name, summary in zip(names, summaries, strict=True):
        services.stream(name, Chunk(summary=summary))
    services.end(names[0])
    by_loss = seen(web, f"sweeps/{sweep}")
    told = seen(web, f"sweeps/{sweep}", metric="acc", goal="maximize")
    assert (told["runs"]["value"], told["best"]) == ([0.5, 0.75, None], names[0])
    assert told["sweep"]["metric"] == {"name": "acc", "goal": "maximize"}
    assert told["sweep"]["objective"] == by_loss["sweep"]["metric"]
    assert by_loss["runs"]["value"] == [1, None, None]
    services.stream(names[1], Chunk(summary='{"acc": 0.25}'))
    news = seen(web, f"sweeps/{sweep}", metric="acc", goal="maximize", since=told["revision"])
    assert (news["runs"]["id"], news["runs"]["value"], news["best"]) == ([names[1]], [0.25], names[0])


@pytest.mark.parametrize("since", ["deadbeef-1", "x", "-", "1", "before a deletion"])
def test_an_unknown_or_outdated_revision_gets_all_runs(services: Services, web: Web, since: str) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    first, second = services.perform(sweep, agent), services.perform(sweep, agent)
    known = seen(web, f"sweeps/{sweep}")["revision"]
    services.delete(first)
    told = seen(web, f"sweeps/{sweep}", since=known if since == "before a deletion" else since)
    assert (told["complete"], told["runs"]["id"]) == (True, [second])


def test_pages_share_answers_that_are_no_older_than_what_each_has_seen(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    with Web(services, pages_fresh_s=3600.0) as web:
        for _ in range(2):
            services.perform(sweep, agent)
            assert len(seen(web, f"sweeps/{sweep}")["runs"]["id"]) == 1
            assert len(seen(web, f"sweeps/{sweep}/timeline", seen="a-1")["bars"]) == 1
        assert len(seen(web, f"sweeps/{sweep}/timeline", seen="a-2")["bars"]) == 2


def test_large_responses_are_compressed_if_the_browser_accepts_gzip(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(20))
    services.points(services.agent(sweep), sweep)
    plain = web.get(f"{DATA}/sweeps/{sweep}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = web.get(f"{DATA}/sweeps/{sweep}", headers={"Accept-Encoding": "gzip"})
    assert packed.json()["runs"]["state"] == ["finished"] * 20
    assert packed.headers["content-encoding"] == "gzip"


def test_the_csv_export_escapes_formulas(services: Services, web: Web) -> None:
    evil = {"method": "grid", "parameters": {"x": {"values": ["=1+1", "a,b"]}, "flag": {"values": [True]}}}
    sweep = services.sweep(evil)
    agent = services.agent(sweep)
    names = [services.perform(sweep, agent) for _ in range(2)]
    answer = web.get(f"{DATA}/sweeps/{sweep}.csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == names
    assert sorted(row["parameters.x"] for row in rows) == ["'=1+1", "a,b"]
    assert {row["parameters.flag"] for row in rows} == {"true"}


def test_a_sweeps_card_shows_the_improvements_of_its_best_value(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(6))
    agent = services.agent(sweep)
    for loss, exitcode in ((0.5, 0), (0.75, 0), (0.1, 1), (0.25, 0)):
        services.finish(sweep, services.issued(agent), loss, exitcode)
        services.clock.now += 1
    assert [card["curve"] for card in seen(web, "")["sweeps"]] == [[[1, 0.5], [3, 0.25]]]
    services.finish(sweep, services.issued(agent), 0.125)
    assert seen(web, "")["sweeps"][0]["curve"][-1] == [4, 0.125]


def test_the_start_page_lists_all_sweeps_or_that_of_a_sweeps_key(services: Services, web: Web) -> None:
    def listed(web: Web) -> set[str]:
        return {card["id"] for card in web.get("/pages/data/sweeps").json()["sweeps"]}

    here = services.sweep(grid(1))
    there = sweep_service.upsert(services.world, SweepUpsert(config=json.dumps(grid(1)), project="q")).id
    assert [card["id"] for card in seen(web, "")["sweeps"]] == [here]
    assert listed(web) == {here, there}
    with Web(services, worker_key(MASTER_KEY, SUPERVISOR, here)) as own:
        assert listed(own) == {here}


@pytest.mark.parametrize("is_of_sweep", [True, False])
@pytest.mark.parametrize("is_of_api", [True, False])
def test_renaming_an_ended_run_updates_the_projects_table(
    services: Services, web: Web, *, is_of_sweep: bool, is_of_api: bool
) -> None:
    name = services.begun(services.sweep(grid(2))) if is_of_sweep else services.upsert("alone").name
    services.end(name)
    services.upsert("other")
    assert seen(web, "")["runs"]["name"] == [name, "other"]
    if is_of_api:
        services.edit(name, display_name="better")
    else:
        run_service.describe(services.world, RunPath("local", "p", name), {"display_name": "better"})
    assert seen(web, "")["runs"]["name"] == ["better", "other"]


def test_the_project_page_is_sent_the_end_of_a_run_without_a_sweep(services: Services, web: Web) -> None:
    services.upsert("alone")
    told = seen(web, "")
    assert (told["runs"]["id"], told["runs"]["state"]) == (["alone"], ["running"])
    services.end("alone")
    news = seen(web, "", since=told["revision"])
    assert (news["runs"]["id"], news["runs"]["state"]) == (["alone"], ["finished"])


def test_a_reduced_curve_keeps_its_spikes(services: Services, web: Web, name: str) -> None:
    heights = [float(step % 7) for step in range(5000)]
    heights[1234], heights[4321] = 1000.0, -1000.0
    services.log(name, *heights)
    x, y = curve(web, name, points=100)
    assert len(x) <= 102
    assert (x[y.index(1000.0)], x[y.index(-1000.0)]) == (1234, 4321)
    assert x == sorted(x)
    assert (x[0], x[-1]) == (0, 4999)


def test_a_curve_omits_values_that_are_not_finite_numbers(services: Services, web: Web, name: str) -> None:
    texts = (
        '{"_step": 0, "_runtime": 0.5, "a.b": 1}',
        '{"_step": 1, "a.b": NaN, "other": 1}',
        '{"_step": 2, "other": -Infinity, "a": {"b": 3}}',
        '{"_step": 3, "a.b": "text"}',
        '{"_step": 4, "_runtime": 4.5, "a.b": 5}',
    )
    services.stream(name, Chunk((Batch(Stream.HISTORY, 0, texts),)))
    assert curve(web, name, "a.b") == ([0, 2, 4], [1, 3, 5])
    assert curve(web, name, "a.b", x="time") == ([0.5, 4.5], [1, 5])
    assert curve(web, name, '"; drop') == ([], [])


def test_a_curve_over_a_logged_value_is_sorted_by_that_value(services: Services, web: Web, name: str) -> None:
    logged = [(2, 5), (1, 4), (3, 6)]
    services.log(name, *({"_step": step, "lr": lr, "loss": loss} for step, (lr, loss) in enumerate(logged)))
    assert curve(web, name, x="key.lr") == ([1, 2, 3], [4, 5, 6])


def test_a_cached_curve_follows_new_and_truncated_history(services: Services, web: Web, name: str) -> None:
    for steps in (range(3), range(3, 6)):
        services.log(name, *steps)
        for _ in range(2):
            assert curve(web, name) == ([*range(steps.stop)], [*range(steps.stop)])
    with services.world.database.write() as transaction:
        lines.cut_history(transaction, services.run(name).id, 2)
    again = tuple(json.dumps({"_step": step, "loss": 9}) for step in range(2, 9))
    services.stream(name, Chunk((Batch(Stream.HISTORY, 2, again),)))
    assert curve(web, name)[1] == [0, 1, *[9] * 7]


def test_a_long_curve_is_in_the_order_of_its_lines(services: Services, web: Web, name: str) -> None:
    for begin in (6000, 0, 12_000):
        rows = tuple(json.dumps({"_step": step, "loss": -step}) for step in range(begin, begin + 6000))
        services.stream(name, Chunk((Batch(Stream.HISTORY, begin, rows),)))
    assert curve(web, name, points=20_000) == ([*range(18_000)], [-step for step in range(18_000)])


def test_only_the_named_runs_are_compared(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    names = [services.begun(sweep) for _ in range(3)]
    for name in names:
        services.log(name, 1.0)
    told = seen(web, f"sweeps/{sweep}/histories", key="loss", runs=",".join(names[:2]))
    assert {run["id"] for run in told["runs"]} == set(names[:2])
    assert len(seen(web, f"sweeps/{sweep}/histories", key="loss")["runs"]) == 3


def test_a_very_long_history_is_sampled_at_a_regular_stride(services: Services) -> None:
    sweep = services.sweep(grid(1))
    services.log(services.begun(sweep), *[1.0] * 1000)
    query = CurveQuery("loss", "step", 10)
    answer = Histories(read_whole=100).of_sweep(services.world, services.at(sweep), [], query)
    (run,) = json.loads(answer)["runs"]
    assert 8 <= len(run["x"]) <= 10
    assert len({later - former for former, later in pairwise(run["x"])}) == 1


@pytest.mark.parametrize("query", [{}, {"key": "a", "x": "y"}, {"key": "a", "points": "-1"}])
def test_an_invalid_curve_query_is_refused(services: Services, web: Web, query: dict[str, str]) -> None:
    sweep = services.sweep(grid(1))
    assert web.get(f"{DATA}/sweeps/{sweep}/histories", params=query).status_code == 400


IMAGE = {"_type": "image-file", "path": "media/images/a_0_b.png"}


def test_a_runs_page_has_its_media_but_no_private_keys(services: Services, web: Web, name: str) -> None:
    histogram = {"_type": "histogram", "values": [1, 2], "packedBins": {"min": 0, "size": 0.5, "count": 2}}
    summary = {"loss": 1.0, "_wandb": {"runtime": 1}, "nested": {"x": float("inf")}}
    services.log(name, 1.0, summary=summary | {"img": IMAGE | {"caption": "<b>"}, "h": histogram})
    told = seen(web, f"runs/{name}")
    assert told["summary"] == {"loss": 1.0, "nested.x": "Infinity"}
    assert (told["parameters"], told["keys"]) == ({"x": 0}, ["loss"])
    assert told["media"]["images"] == [{"key": "img", "file": IMAGE["path"], "caption": "<b>"}]
    assert told["media"]["histograms"][0]["bins"] == [0, 0.5, 1.0]


def test_media_are_listed_by_step(services: Services, web: Web, name: str) -> None:
    note = 'a text with "_type" in it'
    logged = [{"_step": 0, "img": IMAGE}, {"_step": 5, "note": note}, {"_step": 9, "in": {"img": IMAGE}}]
    services.log(name, *logged)
    told = [(each["step"], each["images"]) for each in seen(web, f"runs/{name}/media")]
    shown = {"file": IMAGE["path"], "caption": None}
    assert told == [(0, [{"key": "img", **shown}]), (9, [{"key": "in.img", **shown}])]
    assert [each["step"] for each in seen(web, f"runs/{name}/media", after=1)] == [9]


def test_a_log_continues_after_the_lines_already_read(services: Services, web: Web, name: str) -> None:
    first = ("2026-01-01T00:00:00.0 \x1b[31mred\x1b[0m", "ERROR 2026-01-01T00:00:00.0 bad")
    services.stream(name, Chunk((Batch(Stream.CONSOLE, 0, first),)))
    told = seen(web, f"runs/{name}/log")
    assert (told["lines"], told["errors"], told["next"]) == (["red", "bad"], [1], 2)
    services.stream(name, Chunk((Batch(Stream.CONSOLE, 2, ("more",)),)))
    assert seen(web, f"runs/{name}/log", after=2)["lines"] == ["more"]
    assert seen(web, f"runs/{name}/log", after=3)["next"] == 3
    whole = web.get(f"{DATA}/runs/{name}/log.txt")
    assert (whole.text, whole.headers["content-type"]) == ("red\nbad\nmore\n", "application/octet-stream")
    assert whole.headers["content-disposition"] == f"attachment; filename*=utf-8''{name}.log"


def put(services: Services, run: str, name: str, content: bytes) -> None:
    place = FileRef(str(services.run(run).id), name).path_in(services.world.files)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    with services.world.database.write() as transaction:
        files.put(transaction, File(services.run(run).id, name, len(content), "0" * 32, START))


def test_a_stored_file_is_never_served_as_a_page(services: Services, web: Web, name: str) -> None:
    for file in ("evil.html", "evil.svg", "a.png", "b.table.json"):
        put(services, name, file, b"<script>alert(1)</script>")
    evil = web.get(f"{DATA}/runs/{name}/files/evil.html")
    assert evil.headers["content-type"] == "application/octet-stream"
    assert evil.headers["content-disposition"].startswith("attachment")
    picture = web.get(f"{DATA}/runs/{name}/media/a.png")
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    for other in ("media/evil.svg", "table/b.table.json"):
        assert web.get(f"{DATA}/runs/{name}/{other}").status_code == 415
    for missing in ("files/none", "text/none", "artifacts/1", "artifacts/1/files/a", "artifacts/1/text/a"):
        assert web.get(f"{DATA}/runs/{name}/{missing}").status_code == 404
    (services.folder / "server.db").touch()
    assert web.get(f"{DATA}/runs/{name}/files/..%2f..%2fserver.db").status_code in (400, 404)


def test_code_and_the_diff_come_first_among_a_runs_files(services: Services, web: Web, name: str) -> None:
    for file in ("a.bin", "code/train.py", "diff.patch"):
        put(services, name, file, b"x")
    told = [file["name"] for file in seen(web, f"runs/{name}")["files"]]
    assert told == ["code/train.py", "diff.patch", "a.bin"]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"x" * 2**20, 200), (b"x" * (2**20 + 1), 413), (b"\xff", 415)],
    ids=["1 MiB", "longer", "no text"],
)
def test_only_text_files_of_at_most_1_mib_are_shown_in_the_page(
    services: Services, web: Web, name: str, content: bytes, status: int
) -> None:
    put(services, name, "a.txt", content)
    assert web.get(f"{DATA}/runs/{name}/text/a.txt").status_code == status


def test_a_table_is_sent_as_columns_and_rows(services: Services, web: Web, name: str) -> None:
    put(services, name, "t.table.json", b'{"columns": ["a"], "data": [[1], [NaN]]}')
    told = {"columns": ["a"], "rows": [[1], ["NaN"]], "number": 2}
    assert seen(web, f"runs/{name}/table/t.table.json") == told


@pytest.mark.parametrize(
    "path", ["runs/none", "sweeps/none", "sweeps/none.csv", "sweeps/none/timeline", "runs/n/log"]
)
def test_an_unknown_run_or_sweep_is_not_found(services: Services, web: Web, path: str) -> None:
    services.sweep(grid(1))
    assert web.get(f"{DATA}/{path}").status_code == 404
    page = web.get(f"/local/p/{path}", headers={"Accept": "text/html"}, follow_redirects=True)
    assert page.status_code in (200, 404)


def test_addresses_of_wandbs_tabs_redirect_to_existing_pages(web: Web, name: str) -> None:
    for path, target in ((f"runs/{name}/overview", f"/local/p/runs/{name}"), ("workspace", "/local/p")):
        answer = web.get(f"/local/p/{path}")
        assert (answer.status_code, answer.headers["location"]) == (303, target)
        assert web.get(target).status_code == 200


def test_static_files_are_immutable_and_files_outside_are_not_served(services: Services) -> None:
    with Web(services, None) as browser:
        page = browser.get("/", headers={"Accept": "text/html"}).text
        address = page.partition('href="')[2].partition('rel="stylesheet" href="')[2].partition('"')[0]
        answer = browser.get(address)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
        icon = browser.get("/favicon.ico")
        assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
        for outside in ("../../templates/base.html", "..%2Ftemplates%2Fbase.html"):
            assert browser.get(f"/pages/static/x/{outside}").status_code in (401, 404)
