"""What pages are told: runs as columns, what has changed, curves with spikes, files that are no page."""

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
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import files, lines
from parallel_hpo.server.store.files import File
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from tests.server.acting import MASTER_KEY, START, Services, grid
from tests.server.web import Web

DATA = "/pages/data/local/p"


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    """A client with the master key; what was written just now is to be seen."""
    with Web(services, pages_fresh_s=0.0) as web:
        yield web


def seen(web: Web, path: str, **query: Any) -> Any:
    answer = web.get(f"{DATA}/{path}".rstrip("/"), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def log(
    services: Services, name: str, rows: list[dict[str, Any]], summary: dict[str, Any] | None = None
) -> None:
    content = tuple(json.dumps(row) for row in rows)
    batch = Batch(Stream.HISTORY, services.run(name).history_lines, content)
    services.stream(name, Chunk((batch,), None if summary is None else json.dumps(summary)))


def test_a_sweep_is_told_as_columns(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep, "mark_1_7")
    first = services.issued(agent)
    services.finish(sweep, first, loss=0.5)
    second = services.issued(agent)
    told = seen(web, f"sweeps/{sweep}")
    assert told["complete"]
    assert (told["sweep"]["count"], told["sweep"]["metric"]) == (3, {"name": "loss", "goal": "minimize"})
    assert told["runs"]["id"] == [first, second]
    assert told["runs"]["state"] == ["finished", "pending"]
    assert told["runs"]["value"] == [0.5, None]
    assert told["runs"]["worker"] == ["host/1", "host/1"]
    assert told["runs"]["parameters"] == {"x": [0, 1]}
    assert told["best"] == first
    (axis,) = told["parameters"]
    assert (axis["name"], axis["kind"], axis["varied"]) == ("x", "integer", True)


def test_only_what_has_changed_is_told_again(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    name = services.issued(agent)
    revision = seen(web, f"sweeps/{sweep}")["revision"]
    nothing = seen(web, f"sweeps/{sweep}", since=revision)
    assert (nothing["complete"], nothing["runs"]["id"]) == (False, [])
    services.start(sweep, name)
    log(services, name, [{"_step": 0, "loss": 0.25}], {"loss": 0.25})
    news = seen(web, f"sweeps/{sweep}", since=revision)
    assert (news["runs"]["id"], news["runs"]["state"], news["runs"]["value"]) == ([name], ["running"], [0.25])
    assert [card["best"] for card in seen(web, "")["sweeps"]] == [0.25]
    services.finish(sweep, name, loss=0.125)
    third = services.issued(agent)
    news = seen(web, f"sweeps/{sweep}", since=news["revision"])
    assert news["runs"]["id"] == [name, third]
    assert news["runs"]["value"] == [0.125, None]
    assert news["best"] == name


def test_runs_are_compared_by_any_value_of_their_summaries(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    names = [services.issued(services.agent(sweep)) for _ in range(3)]
    for name, summary in zip(
        names, ('{"acc": 0.5, "loss": 1}', '{"acc": 0.75}', '{"acc": "?"}'), strict=True
    ):
        services.start(sweep, name)
        services.stream(name, Chunk(summary=summary))
    services.stream(names[0], Chunk(exitcode=0))
    by_loss = seen(web, f"sweeps/{sweep}")
    told = seen(web, f"sweeps/{sweep}", metric="acc", goal="maximize")
    assert (told["runs"]["value"], told["best"]) == ([0.5, 0.75, None], names[1])
    assert told["sweep"]["metric"] == {"name": "acc", "goal": "maximize"}
    assert told["sweep"]["objective"] == by_loss["sweep"]["metric"]
    assert by_loss["runs"]["value"] == [1, None, None]
    services.stream(names[1], Chunk(summary='{"acc": 0.25}'))
    news = seen(web, f"sweeps/{sweep}", metric="acc", goal="maximize", since=told["revision"])
    assert (news["runs"]["id"], news["runs"]["value"], news["best"]) == ([names[1]], [0.25], names[0])


def test_after_a_deletion_all_is_told_anew(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    first, second = services.perform(sweep, agent), services.perform(sweep, agent)
    revision = seen(web, f"sweeps/{sweep}")["revision"]
    services.delete(first)
    told = seen(web, f"sweeps/{sweep}", since=revision)
    assert (told["complete"], told["runs"]["id"]) == (True, [second])


def test_another_servers_revision_gets_everything(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    name = services.perform(sweep, services.agent(sweep))
    for other in ("deadbeef-1", "x", "-", "1"):
        assert seen(web, f"sweeps/{sweep}", since=other)["runs"]["id"] == [name]


def test_many_pages_ask_the_database_once(services: Services) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    with Web(services, pages_fresh_s=3600.0) as web:
        for _ in range(2):
            services.perform(sweep, agent)
            assert len(seen(web, f"sweeps/{sweep}")["runs"]["id"]) == 1


def test_a_value_that_is_no_number_is_none(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    name = services.begun(sweep)
    services.stream(name, Chunk(summary='{"loss": NaN}'))
    assert seen(web, f"sweeps/{sweep}")["runs"]["value"] == [None]


def test_big_answers_are_packed_where_the_browser_takes_it(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(20))
    agent = services.agent(sweep)
    for _ in range(20):
        services.perform(sweep, agent)
    plain = web.get(f"{DATA}/sweeps/{sweep}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = web.get(f"{DATA}/sweeps/{sweep}", headers={"Accept-Encoding": "gzip"})
    assert packed.json()["runs"]["state"] == ["finished"] * 20
    assert packed.headers["content-encoding"] == "gzip"


def test_a_table_for_spreadsheets_has_no_formulas(services: Services, web: Web) -> None:
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


def test_a_spike_stays_in_a_curve_of_fewer_points(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    heights = [float(step % 7) for step in range(5000)]
    heights[1234], heights[4321] = 1000.0, -1000.0
    log(services, name, [{"_step": step, "loss": height} for step, height in enumerate(heights)])
    told = seen(web, f"runs/{name}/history", key="loss", points=100)["points"]
    assert len(told["x"]) <= 102
    assert (told["x"][told["y"].index(1000.0)], told["x"][told["y"].index(-1000.0)]) == (1234, 4321)
    assert told["x"] == sorted(told["x"])
    assert (told["x"][0], told["x"][-1]) == (0, 4999)


def test_a_curve_leaves_out_what_is_no_number_and_keeps_the_rest(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    texts = (
        '{"_step": 0, "_runtime": 0.5, "a.b": 1}',
        '{"_step": 1, "a.b": NaN, "other": 1}',
        '{"_step": 2, "other": -Infinity, "a": {"b": 3}}',
        '{"_step": 3, "a.b": "text"}',
        '{"_step": 4, "_runtime": 4.5, "a.b": 5}',
    )
    services.stream(name, Chunk((Batch(Stream.HISTORY, 0, texts),)))
    assert seen(web, f"runs/{name}/history", key="a.b")["points"] == {"x": [0, 2, 4], "y": [1, 3, 5]}
    assert seen(web, f"runs/{name}/history", key="a.b", x="time")["points"] == {"x": [0.5, 4.5], "y": [1, 5]}
    assert seen(web, f"runs/{name}/history", key='"; drop')["points"] == {"x": [], "y": []}


def test_a_curve_over_a_logged_value_has_it_in_rising_order(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    rows = [
        {"_step": step, "lr": lr, "loss": loss} for step, (lr, loss) in enumerate([(2, 5), (1, 4), (3, 6)])
    ]
    log(services, name, rows)
    told = seen(web, f"runs/{name}/history", key="loss", x="key.lr")["points"]
    assert (told["x"], told["y"]) == ([1, 2, 3], [4, 5, 6])


def test_a_curve_that_was_seen_grows_with_its_run(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    for begin in (0, 3, 6):
        log(services, name, [{"_step": step, "loss": step} for step in range(begin, begin + 3)])
        steps = list(range(begin + 3))
        for _ in range(2):
            assert seen(web, f"runs/{name}/history", key="loss")["points"] == {"x": steps, "y": steps}


def test_a_curve_that_was_seen_is_read_anew_after_its_run_was_rewound(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    log(services, name, [{"_step": step, "loss": 1} for step in range(4)])
    seen(web, f"runs/{name}/history", key="loss")
    again = tuple(json.dumps({"_step": step, "loss": 2}) for step in range(2, 7))
    with services.world.database.write() as transaction:
        lines.cut_history(transaction, services.run(name).id, 2)
    services.stream(name, Chunk((Batch(Stream.HISTORY, 2, again),)))
    assert seen(web, f"runs/{name}/history", key="loss")["points"]["y"] == [1, 1, 2, 2, 2, 2, 2]


def test_what_pages_share_is_as_new_as_what_they_have_seen(services: Services) -> None:
    sweep = services.sweep(grid(2))
    agent = services.agent(sweep)
    services.perform(sweep, agent)
    with Web(services, pages_fresh_s=60.0) as web:
        assert len(seen(web, f"sweeps/{sweep}/timeline", seen="a-1")["bars"]) == 1
        services.perform(sweep, agent)
        assert len(seen(web, f"sweeps/{sweep}/timeline", seen="a-1")["bars"]) == 1
        assert len(seen(web, f"sweeps/{sweep}/timeline", seen="a-2")["bars"]) == 2


def test_a_curve_of_many_lines_is_in_their_order(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    for begin in (6000, 0, 12_000):
        rows = tuple(json.dumps({"_step": step, "loss": -step}) for step in range(begin, begin + 6000))
        services.stream(name, Chunk((Batch(Stream.HISTORY, begin, rows),)))
    told = seen(web, f"runs/{name}/history", key="loss", points=20_000)["points"]
    assert told == {"x": [*range(18_000)], "y": [-step for step in range(18_000)]}


def test_the_runs_that_are_named_are_compared(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(3))
    agent = services.agent(sweep)
    names = []
    for _ in range(3):
        names.append(services.issued(agent))
        services.start(sweep, names[-1])
        log(services, names[-1], [{"_step": 0, "loss": 1.0}])
        services.finish(sweep, names[-1])
    told = seen(web, f"sweeps/{sweep}/histories", key="loss", runs=",".join(names[:2]))
    assert {run["id"] for run in told["runs"]} == set(names[:2])
    assert len(seen(web, f"sweeps/{sweep}/histories", key="loss")["runs"]) == 3


def test_very_many_lines_are_strided(services: Services) -> None:
    sweep = services.sweep(grid(1))
    name = services.begun(sweep)
    log(services, name, [{"_step": step, "loss": 1.0} for step in range(1000)])
    curves = Histories(read_whole=100)
    (run,) = json.loads(
        curves.of_sweep(services.world, services.at(sweep), [], CurveQuery("loss", "step", 10))
    )["runs"]
    assert 8 <= len(run["x"]) <= 10
    assert len({later - former for former, later in pairwise(run["x"])}) == 1


@pytest.mark.parametrize("query", [{}, {"key": "a", "x": "y"}, {"key": "a", "points": "-1"}])
def test_a_wrong_question_about_a_curve_is_refused(
    services: Services, web: Web, query: dict[str, str]
) -> None:
    sweep = services.sweep(grid(1))
    assert web.get(f"{DATA}/sweeps/{sweep}/histories", params=query).status_code == 400


def test_the_timeline_has_a_lane_for_each_worker(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(4))
    first, second = services.agent(sweep, "mark_0_1"), services.agent(sweep, "mark_1_2")
    names = [services.perform(sweep, first), services.perform(sweep, second)]
    again = services.agent(sweep, "mark_0_3")
    running = services.issued(again)
    services.start(sweep, running)
    told = seen(web, f"sweeps/{sweep}/timeline")
    assert [lane["name"] for lane in told["lanes"]] == ["worker 0", "worker 1"]
    bars = {bar["run"]: bar for bar in told["bars"]}
    assert [bars[name]["lane"] for name in (*names, running)] == [0, 1, 0]
    assert (bars[running]["end"], bars[names[0]]["end"]) == (None, START)
    assert [(mark["lane"], mark["kind"]) for mark in told["marks"]] == [(0, "restart")]


def test_a_run_is_told_with_its_media_and_without_the_clients_own(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    image = {"_type": "image-file", "path": "media/images/a_0_b.png", "caption": "<b>"}
    summary = {"loss": 1.0, "_wandb": {"runtime": 1}, "img": image, "nested": {"x": float("inf")}}
    histogram = {"_type": "histogram", "values": [1, 2], "packedBins": {"min": 0, "size": 0.5, "count": 2}}
    log(services, name, [{"_step": 0, "loss": 1.0}], summary | {"h": histogram})
    told = seen(web, f"runs/{name}")
    assert told["summary"] == {"loss": 1.0, "nested.x": "Infinity"}
    assert told["parameters"] == {"x": 0}
    assert told["keys"] == ["loss"]
    assert told["media"]["images"] == [{"key": "img", "file": "media/images/a_0_b.png", "caption": "<b>"}]
    assert told["media"]["histograms"][0]["bins"] == [0, 0.5, 1.0]


def test_a_log_goes_on_where_it_was(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
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


def test_media_are_told_by_step(services: Services, web: Web) -> None:
    name = services.begun(services.sweep(grid(1)))
    image = {"_type": "image-file", "path": "media/images/a_0_b.png"}
    note = 'a text with "_type" in it'
    logged = [{"_step": 0, "img": image}, {"_step": 5, "note": note}, {"_step": 9, "in": {"img": image}}]
    log(services, name, logged, {})
    told = [(each["step"], each["images"]) for each in seen(web, f"runs/{name}/media")]
    shown = {"file": image["path"], "caption": None}
    assert told == [(0, [{"key": "img", **shown}]), (9, [{"key": "in.img", **shown}])]
    assert [each["step"] for each in seen(web, f"runs/{name}/media", after=1)] == [9]


def put(services: Services, run: str, name: str, content: bytes) -> None:
    place = FileRef(str(services.run(run).id), name).path_in(services.world.files)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    with services.world.database.write() as transaction:
        files.put(transaction, File(services.run(run).id, name, len(content), "0" * 32, START))


def test_what_a_run_stored_is_never_a_page_of_ours(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(1))
    name = services.perform(sweep, services.agent(sweep))
    for file in ("evil.html", "evil.svg", "a.png", "b.table.json"):
        put(services, name, file, b"<script>alert(1)</script>")
    evil = web.get(f"{DATA}/runs/{name}/files/evil.html")
    assert evil.headers["content-type"] == "application/octet-stream"
    assert evil.headers["content-disposition"].startswith("attachment")
    assert web.get(f"{DATA}/runs/{name}/media/evil.svg").status_code == 415
    picture = web.get(f"{DATA}/runs/{name}/media/a.png")
    assert (picture.headers["content-type"], picture.headers["x-content-type-options"]) == (
        "image/png",
        "nosniff",
    )
    assert web.get(f"{DATA}/runs/{name}/table/b.table.json").status_code == 415
    for missing in ("files/none", "text/none", "artifacts/1", "artifacts/1/files/a", "artifacts/1/text/a"):
        assert web.get(f"{DATA}/runs/{name}/{missing}").status_code == 404
    (services.folder / "server.db").touch()
    assert web.get(f"{DATA}/runs/{name}/files/..%2f..%2fserver.db").status_code in (400, 404)


def test_code_and_changes_come_first_among_a_runs_files(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(1))
    name = services.perform(sweep, services.agent(sweep))
    for file in ("a.bin", "code/train.py", "diff.patch"):
        put(services, name, file, b"x")
    told = [file["name"] for file in seen(web, f"runs/{name}")["files"]]
    assert told == ["code/train.py", "diff.patch", "a.bin"]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"x" * 2**20, 200), (b"x" * (2**20 + 1), 413), (b"\xff", 415)],
    ids=["1 MiB", "longer", "no text"],
)
def test_only_a_text_of_at_most_1_mib_is_read_in_the_page(
    services: Services, web: Web, content: bytes, status: int
) -> None:
    sweep = services.sweep(grid(1))
    name = services.perform(sweep, services.agent(sweep))
    put(services, name, "a.txt", content)
    assert web.get(f"{DATA}/runs/{name}/text/a.txt").status_code == status


def test_a_table_is_told_row_by_row(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(1))
    name = services.perform(sweep, services.agent(sweep))
    put(services, name, "t.table.json", b'{"columns": ["a"], "data": [[1], [NaN]]}')
    assert seen(web, f"runs/{name}/table/t.table.json") == {
        "columns": ["a"],
        "rows": [[1], ["NaN"]],
        "number": 2,
    }


def test_a_sweeps_card_has_the_improvements_of_its_best_value(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(6))
    agent = services.agent(sweep)
    for loss, exitcode in ((0.5, 0), (0.75, 0), (0.1, 1), (0.25, 0)):
        name = services.issued(agent)
        services.finish(sweep, name, loss, exitcode)
        services.clock.now += 1
    assert [card["curve"] for card in seen(web, "")["sweeps"]] == [[[1, 0.5], [3, 0.25]]]
    services.finish(sweep, services.issued(agent), 0.125)
    assert seen(web, "")["sweeps"][0]["curve"][-1] == [4, 0.125]


def test_a_project_lists_its_sweeps_and_all_its_runs(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(2))
    name = services.perform(sweep, services.agent(sweep))
    told = seen(web, "")
    assert [(each["id"], each["best"], each["runs"]) for each in told["sweeps"]] == [
        (sweep, 1.0, {"finished": 1})
    ]
    assert (told["runs"]["id"], told["runs"]["sweep"]) == ([name], [sweep])


def test_the_first_page_lists_all_sweeps_and_a_project_its_own(services: Services, web: Web) -> None:
    here = services.sweep(grid(1))
    there = sweep_service.upsert(services.world, SweepUpsert(config=json.dumps(grid(1)), project="q")).id
    assert [card["id"] for card in seen(web, "")["sweeps"]] == [here]
    assert {card["id"] for card in web.get("/pages/data/sweeps").json()["sweeps"]} == {here, there}


def test_with_a_sweeps_key_the_first_page_lists_that_sweep(services: Services) -> None:
    services.sweep(grid(1))
    own = services.sweep(grid(1))
    with Web(services, worker_key(MASTER_KEY, SUPERVISOR, own)) as web:
        assert [card["id"] for card in web.get("/pages/data/sweeps").json()["sweeps"]] == [own]


@pytest.mark.parametrize("is_of_sweep", [True, False])
@pytest.mark.parametrize("is_of_api", [True, False])
def test_an_ended_run_that_is_renamed_has_its_new_name_in_the_projects_table(
    services: Services, web: Web, *, is_of_sweep: bool, is_of_api: bool
) -> None:
    if is_of_sweep:
        sweep = services.sweep(grid(2))
        name = services.issued(services.agent(sweep))
        services.finish(sweep, name)
    else:
        run_service.upsert(services.world, RunUpsert(name=(name := "alone"), project="p"))
        services.stream(name, Chunk(exitcode=0))
    run_service.upsert(services.world, RunUpsert(name="other", project="p"))
    assert seen(web, "")["runs"]["name"] == [name, "other"]
    if is_of_api:
        run_service.upsert(services.world, RunUpsert(id=services.run(name).id, display_name="better"))
    else:
        run_service.describe(services.world, RunPath("local", "p", name), {"display_name": "better"})
    assert seen(web, "")["runs"]["name"] == ["better", "other"]


def test_a_run_of_no_sweep_is_followed_to_its_end(services: Services, web: Web) -> None:
    run_service.upsert(services.world, RunUpsert(name="alone", project="p"))
    told = seen(web, "")
    assert (told["runs"]["id"], told["runs"]["state"]) == (["alone"], ["running"])
    services.stream("alone", Chunk(exitcode=0))
    news = seen(web, "", since=told["revision"])
    assert (news["runs"]["id"], news["runs"]["state"]) == (["alone"], ["finished"])


@pytest.mark.parametrize(
    "path", ["runs/none", "sweeps/none", "sweeps/none.csv", "sweeps/none/timeline", "runs/n/log"]
)
def test_what_is_not_there_is_not_found(services: Services, web: Web, path: str) -> None:
    services.sweep(grid(1))
    assert web.get(f"{DATA}/{path}").status_code == 404
    page = web.get(f"/local/p/{path}", headers={"Accept": "text/html"}, follow_redirects=True)
    assert page.status_code in (200, 404)


def test_wandbs_own_tabs_lead_to_pages_that_are_there(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(1))
    name = services.perform(sweep, services.agent(sweep))
    for path, target in ((f"runs/{name}/overview", f"/local/p/runs/{name}"), ("workspace", "/local/p")):
        answer = web.get(f"/local/p/{path}")
        assert (answer.status_code, answer.headers["location"]) == (303, target)
        assert web.get(target).status_code == 200


def test_the_browsers_files_may_be_kept_for_ever(web: Web, services: Services) -> None:
    with Web(services, None) as browser:
        page = browser.get("/", headers={"Accept": "text/html"}).text
        address = page.partition('href="')[2].partition('rel="stylesheet" href="')[2].partition('"')[0]
        answer = browser.get(address)
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
        icon = browser.get("/favicon.ico")
        assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
        for outside in (
            "/pages/static/x/../../templates/base.html",
            "/pages/static/x/..%2Ftemplates%2Fbase.html",
        ):
            assert browser.get(outside).status_code in (401, 404)
