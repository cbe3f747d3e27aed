"""The HTTP shell in process: who gets in, what malformed requests get, and the supervisor's door."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from parallel_hpo.client.server_client import OUR_NAME
from parallel_hpo.core.keys import worker_key
from parallel_hpo.server.graphql.execute import Executor
from parallel_hpo.server.http.connections import decoder
from parallel_hpo.server.http.executing import make_executor
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.store import files
from parallel_hpo.server.store.files import File
from tests.server.acting import MASTER_KEY, START, Services, grid
from tests.server.web import Web

DEADLINE_S = 20.0
"""Far beyond what anything here takes, so that only a hang reaches it."""
VIEWER = {"query": "query Viewer { viewer { entity } }", "operationName": ""}
ADDRESSES = '{ project(name: "p") { run(name: "r") { files { edges { node { url } } } } } }'
BEAT = 'mutation B($a: ID!) { agentHeartbeat(input: {id: $a, runState: "{}"}) { commands } }'


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    """A client with the master key."""
    with Web(services) as web:
        yield web


def test_a_server_answers_before_it_can_execute_graphql(services: Services) -> None:
    may_be_made = threading.Event()

    def make() -> Executor:
        assert may_be_made.wait(DEADLINE_S)
        return make_executor()

    with Web(services, make_executor=make) as web:
        viewer = web.begin("/graphql", json=VIEWER)
        assert web.get("/hpo/health").status_code == 200
        assert not viewer.done()
        may_be_made.set()
        assert web.wait_for(viewer).json() == {"data": {"viewer": {"entity": "local"}}}


def test_a_server_starts_without_what_only_some_requests_need() -> None:
    code = "import sys, parallel_hpo.server.http.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    needless = {"graphql", "numpy", "scipy", "optuna", "jinja2", "alembic", "wandb", "pydantic"}
    assert needless.isdisjoint(loaded.stdout.split())


def test_the_viewer_is_answered(web: Web) -> None:
    response = web.post("/graphql", json=VIEWER)
    assert (response.status_code, response.json()) == (200, {"data": {"viewer": {"entity": "local"}}})


@pytest.mark.parametrize("key", [None, "", "b" * 40, "w0-" + "c" * 64, worker_key("d" * 40, "w0")])
def test_a_wrong_key_is_refused(services: Services, key: str | None) -> None:
    with Web(services, key) as web:
        assert web.post("/graphql", json=VIEWER).status_code == 401
        assert web.post("/files/local/p/r/file_stream", json={}).status_code == 401
        assert web.get("/hpo/sweeps/local/p/s").status_code == 401
        assert web.get("/nothing").status_code == 401


@pytest.mark.parametrize("header", ["Bearer x", "Basic", "Basic %%%", "Basic Zm9v", "Basic /w=="])
def test_a_malformed_authorization_is_refused(services: Services, header: str) -> None:
    with Web(services, None) as web:
        response = web.post("/graphql", json=VIEWER, headers={"Authorization": header})
    assert response.status_code == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "",
        "[::1].evil.example",
        "[::1]x",
        "localhost:80:80",
        "localhost:x",
    ],
)
def test_a_page_that_rebinds_its_name_is_not_served(web: Web, host: str) -> None:
    assert web.post("/graphql", json=VIEWER, headers={"Host": host}).status_code == 400
    assert web.get("/hpo/health", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:99", "[::1]"])
def test_loopback_is_served_by_each_of_its_names(web: Web, host: str) -> None:
    assert web.post("/graphql", json=VIEWER, headers={"Host": host}).status_code == 200


def test_a_server_on_all_addresses_is_served_by_any_name(services: Services) -> None:
    with Web(services, host="0.0.0.0") as web:
        assert web.post("/graphql", json=VIEWER, headers={"Host": "gpu17:80"}).status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "begins"),
    [
        ({}, "http://127.0.0.1:1234/uploads/"),
        ({"X-Forwarded-Proto": "https"}, "https://127.0.0.1:1234/uploads/"),
        (
            {"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "hpo.example:8443, inner"},
            "https://hpo.example:8443/uploads/",
        ),
        ({"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a@b/c"}, "http://127.0.0.1:1234/uploads/"),
    ],
)
def test_behind_a_proxy_addresses_of_files_begin_as_the_callers_own(
    services: Services, web: Web, forwarded: dict[str, str], begins: str
) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    query = """mutation C { createRunFiles(input: {
        entityName: "local", projectName: "p", runName: "r", files: ["a"]}) { files { uploadUrl } } }"""
    answer = web.post("/graphql", json={"query": query}, headers=forwarded).json()
    (file,) = answer["data"]["createRunFiles"]["files"]
    assert file["uploadUrl"].startswith(begins)
    path = "/uploads/" + file["uploadUrl"].removeprefix(begins)
    assert web.put(path, content=b"bytes").status_code == 200


def test_an_agent_carries_the_label_of_its_key(services: Services) -> None:
    sweep = services.sweep(grid(2))
    query = 'mutation A($s: String!) { createAgent(input: {host: "h", sweep: $s}) { agent { id } } }'
    with Web(services, worker_key(MASTER_KEY, "w0_1")) as worker:
        agent = worker.ask(query, s=sweep)["data"]["createAgent"]["agent"]["id"]
    name = services.issued(agent)
    assert services.release(sweep, "w0_") == [name]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("query X { nothing }", "Cannot query field 'nothing'"),
        ("query X { entity { user { organizations { orgEntity { name } } } } }", "no registries"),
        ("query X { viewer { ", "Syntax Error"),
        ("{viewer{teams{edges" * 20 + "}" * 60, "nested too deeply"),
        ("", "Syntax Error"),
        ("query X($a: Int!) { viewer { id } }", "Variable"),
    ],
)
def test_what_is_not_there_is_answered_with_errors_and_no_data(web: Web, query: str, message: str) -> None:
    response = web.post("/graphql", json={"query": query, "variables": {}})
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert message in response.json()["errors"][0]["message"]


def test_an_unknown_agents_heartbeat_is_not_found(web: Web) -> None:
    query = 'mutation H { agentHeartbeat(input: {id: "x", runState: "{}"}) { commands } }'
    assert web.post("/graphql", json={"query": query}).status_code == 404


@pytest.mark.parametrize("run_state", ["{", "[]", "1", '"x"'])
def test_a_heartbeat_with_a_wrong_run_state_is_refused(web: Web, run_state: str) -> None:
    query = 'mutation H($r: JSONString) { agentHeartbeat(input: {id: "x", runState: $r}) { commands } }'
    assert "runState" in web.ask(query, r=run_state)["errors"][0]["message"] or run_state == "[]"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"1",
        b'{"query": 1}',
        b'{"query": "q", "variables": []}',
        b'{"query": "query { viewer { id } }", "operationName": "\\ud800"}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_a_body_that_is_no_request_is_refused(web: Web, body: bytes) -> None:
    assert web.post("/graphql", content=body).status_code == 400


def packed(body: bytes) -> dict[str, Any]:
    return {"content": gzip.compress(body), "headers": {"Content-Encoding": "gzip"}}


def test_a_stream_packed_by_gzip_is_a_stream(services: Services, web: Web) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    row = {"files": {"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0}']}}}
    response = web.post("/files/local/p/r/file_stream", **packed(json.dumps(row).encode()))
    assert response.status_code == 200
    assert services.run("r").history_lines == 1


def test_what_is_packed_is_unpacked_no_further_than_a_body_may_be_big(web: Web) -> None:
    assert web.post("/graphql", **packed(b" " * (64 * 2**20 + 1))).status_code == 413
    assert len(decoder("gzip").decode(gzip.compress(bytes(2**20)), 100)) == 100


PACKED = gzip.compress(b"{}")


@pytest.mark.parametrize(
    "bad", [b"{}", b"", PACKED[:-1], PACKED + b"x"], ids=["plain", "nothing", "cut short", "and more"]
)
def test_what_only_says_that_it_is_packed_is_refused(web: Web, bad: bytes) -> None:
    response = web.post("/graphql", content=bad, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["error"]) == (
        400,
        "the body is not valid gzip, as its Content-Encoding says",
    )
    assert web.post("/graphql", content=b"{}", headers={"Content-Encoding": "br"}).status_code == 415


def test_a_database_that_is_busy_asks_the_client_to_come_again(services: Services) -> None:
    other = Services(services.folder, where=services.where, busy_timeout_s=0.01)
    query = 'mutation U { upsertBucket(input: {name: "r"}) { bucket { name } } }'
    with Web(other) as web:
        with services.world.database.write():
            assert web.post("/graphql", json={"query": query}).status_code == 503
        assert web.post("/graphql", json={"query": query}).status_code == 200
    other.close()


def test_a_fault_of_our_own_is_no_busy_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    services = Services(tmp_path)
    with services.world.database.write() as transaction:
        transaction.execute(text("DROP TABLE agents"))
    query = 'mutation B { agentHeartbeat(input: {id: "a"}) { commands } }'
    with Web(services) as web:
        assert web.post("/graphql", json={"query": query}).status_code == 500
    services.close()
    assert "no such table: agents" in caplog.text


def test_a_heartbeat_waits_for_no_query(services: Services) -> None:
    run_service.upsert(services.world, RunUpsert(name="r", project="p"))
    beat = {"query": BEAT, "variables": {"a": services.agent(services.sweep(grid(1)))}}
    with services.world.database.write() as transaction:
        files.put(transaction, File(services.run("r").id, "f", 1, "0" * 32, START))
    order: list[int] = []
    beaten = threading.Event()

    def clock() -> float:
        """Hold up the query, which asks for the time to sign an address, until the heartbeat is answered."""
        if threading.current_thread().name.startswith("queries"):
            beaten.wait(10)
        return START

    def answered(number: int) -> None:
        order.append(number)
        beaten.set()

    services.world = replace(services.world, clock=clock)
    with Web(services) as web:
        web.race({"query": ADDRESSES}, beat, answered=answered)
    assert order == [1, 0]


def test_health_needs_no_key_and_tells_nothing(services: Services) -> None:
    with Web(services, None) as web:
        response = web.get("/hpo/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "server": OUR_NAME})


def test_the_supervisors_door_is_closed_to_workers(services: Services) -> None:
    sweep = services.sweep(grid(2))
    with Web(services, worker_key(MASTER_KEY, "w0")) as worker:
        assert worker.get(f"/hpo/sweeps/local/p/{sweep}").status_code == 403
        answer = worker.post(f"/hpo/sweeps/local/p/{sweep}/release", json={"label_prefix": "w"})
    assert answer.status_code == 403


def test_a_supervisor_sees_releases_and_ends_runs(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(4))
    unstarted = services.issued(services.agent(sweep, "w0"))
    started = services.begun(sweep, "w1")
    base = f"/hpo/sweeps/local/p/{sweep}"
    assert web.post(f"{base}/release", json={"label_prefix": "w0"}).json() == {"released": [unstarted]}
    assert web.post(f"{base}/runs/{started}/end", json={"state": "crashed"}).json() == {"state": "crashed"}
    progress = web.get(base).json()
    assert progress["state"] == "RUNNING"
    assert {name: n for name, n in progress["runs"].items() if n} == {"pending": 1, "crashed": 1}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/release", {}, 400),
        ("/release", {"label_prefix": ""}, 400),
        ("/release", [], 400),
        ("/release", {"label_prefix": "w", "keep": "r"}, 400),
        ("/state", {"state": 1}, 400),
        ("/runs/nobody/end", {"state": "crashed"}, 404),
        ("/runs/nobody/end", {"state": "running"}, 400),
    ],
)
def test_a_supervisors_mistake_is_named(
    services: Services, web: Web, path: str, body: Any, status: int
) -> None:
    sweep = services.sweep(grid(4))
    response = web.post(f"/hpo/sweeps/local/p/{sweep}{path}", json=body)
    assert response.status_code == status
    assert response.json()["error"]


def test_a_supervisor_sets_a_sweeps_state(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(4))
    base = f"/hpo/sweeps/local/p/{sweep}"
    assert web.post(f"{base}/state", json={"state": "FINISHED"}).json() == {"state": "FINISHED"}
    assert web.get(base).json()["state"] == "FINISHED"


def test_an_unknown_sweep_is_not_found(web: Web) -> None:
    assert web.get("/hpo/sweeps/local/p/none").status_code == 404


def test_a_query_sees_runs_filtered_ordered_and_paged(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    agent = services.agent(sweep)
    for loss in (3, 1, 2):
        services.finish(sweep, services.issued(agent), loss=loss)
    run_service.upsert(services.world, RunUpsert(name="alone", project="p"))
    query = """query Runs($filters: JSONString, $after: String) { project(name: "p") {
        runCount(filters: $filters)
        runs(filters: $filters, after: $after, first: 2, order: "+summary_metrics.loss") {
          edges { node { summaryMetrics sweepName } cursor } pageInfo { endCursor hasNextPage } } } }"""
    filters = json.dumps({"$and": [{"sweep": sweep}]})
    first = web.ask(query, filters=filters)["data"]["project"]
    assert first["runCount"] == 3
    assert [edge["node"]["summaryMetrics"] for edge in first["runs"]["edges"]] == [
        '{"loss": 1}',
        '{"loss": 2}',
    ]
    assert first["runs"]["pageInfo"]["hasNextPage"]
    after = first["runs"]["pageInfo"]["endCursor"]
    second = web.ask(query, filters=filters, after=after)["data"]["project"]
    assert [edge["node"]["summaryMetrics"] for edge in second["runs"]["edges"]] == ['{"loss": 3}']
    assert not second["runs"]["pageInfo"]["hasNextPage"]


@pytest.mark.parametrize(("goal", "best"), [("minimize", 1.0), ("maximize", 3.0)])
def test_a_sweep_shows_its_best_value_and_its_agents(
    services: Services, web: Web, goal: str, best: float
) -> None:
    sweep = services.sweep(grid(5, metric={"name": "loss", "goal": goal}))
    agent = services.agent(sweep)
    for loss in (3, 1):
        services.finish(sweep, services.issued(agent), loss=loss)
    query = """query S($s: String!) { project(name: "p") { sweep(sweepName: $s) {
        state bestLoss runCount runCountExpected agents { edges { node { id totalRuns } } } } } }"""
    assert web.ask(query, s=sweep)["data"]["project"]["sweep"] == {
        "state": "RUNNING",
        "bestLoss": best,
        "runCount": 2,
        "runCountExpected": 5,
        "agents": {"edges": [{"node": {"id": agent, "totalRuns": 2}}]},
    }


def test_a_sweep_shows_its_prior_runs_and_not_another_sweeps_to_a_worker(
    services: Services, web: Web
) -> None:
    run_service.upsert(services.world, RunUpsert(name="alone", project="p"))
    run_service.upsert(services.world, RunUpsert(name="unasked", project="p"))
    other = services.sweep(grid(1))
    name = services.issued(services.agent(other))
    prior = services.sweep(grid(2), prior_runs=json.dumps({"name": {"$in": ["alone", name]}}))
    query = """query S($s: String!) { project(name: "p") { sweep(sweepName: $s) {
        priorRuns { edges { node { name } } } } } }"""

    def shown(asker: Web, sweep: str) -> list[str]:
        runs = asker.ask(query, s=sweep)["data"]["project"]["sweep"]["priorRuns"]
        return [edge["node"]["name"] for edge in runs["edges"]]

    assert (shown(web, prior), shown(web, other)) == (["alone", name], [])
    with Web(services, worker_key(MASTER_KEY, "w0", prior)) as worker:
        assert shown(worker, prior) == ["alone"]


def test_any_entity_is_a_team_of_the_one_user(web: Web) -> None:
    query = 'query T { entity(name: "vision") { name isTeam storageBytes members { username accountType } } }'
    member = {"username": "local", "accountType": "USER"}
    assert web.ask(query)["data"]["entity"] == {
        "name": "vision",
        "isTeam": True,
        "storageBytes": 0,
        "members": [member],
    }
    search = "query U($q: String) { users(query: $q) { edges { node { username } } } }"
    found = [web.ask(search, q=text)["data"]["users"]["edges"] for text in ("loc", "nobody")]
    assert found == [[{"node": {"username": "local"}}], []]


def test_a_sweep_of_another_project_is_not_found(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    sweep_service.upsert(
        services.world,
        sweep_service.SweepUpsert(config="method: random\nparameters: {x: {value: 1}}", project="q"),
    )
    query = 'query S($s: String!) { project(name: "q") { sweep(sweepName: $s) { id } } }'
    assert web.ask(query, s=sweep)["data"]["project"]["sweep"] is None


def test_a_run_that_was_only_issued_has_not_begun_for_a_client_that_resumes(
    services: Services, web: Web
) -> None:
    sweep = services.sweep(grid(5))
    name = services.issued(services.agent(sweep))
    query = """query R($n: String!) { model(name: "p", entityName: "local") {
        bucket(name: $n, missingOk: true) { wandbConfig(keys: ["t"]) historyTail } } }"""
    bucket = {"wandbConfig": None, "historyTail": "[]"}
    assert web.ask(query, n=name)["data"]["model"]["bucket"] == bucket
    services.start(sweep, name)
    assert web.ask(query, n=name)["data"]["model"]["bucket"]["wandbConfig"] == '{"t": 1}'
