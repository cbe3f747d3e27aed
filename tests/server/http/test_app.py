"""The HTTP layer in process: access, malformed requests, and the supervisor's endpoints."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
from base64 import b64encode
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
from parallel_hpo.server.store import files
from parallel_hpo.server.store.files import File
from tests.server.application import BEAT, REGISTER, Web
from tests.server.server_logic import MASTER_KEY, START, Services, grid

DEADLINE_S = 20.0
"""A timeout that only a hang reaches."""
VIEWER = "query Viewer { viewer { entity } }"
ADDRESSES = '{ project(name: "p") { run(name: "r") { files { edges { node { url } } } } } }'
SWEEP = 'query S($s: String!) { project(name: "p") { sweep(sweepName: $s) { state } } }'
HEARD_STATE = 'mutation { agentHeartbeat(input: {id: "x", runState: "STATE"}) { commands } }'
PRIOR = """query S($s: String!) { project(name: "p") { sweep(sweepName: $s) {
    priorRuns { edges { node { name } } } } } }"""


def test_a_server_answers_before_it_can_execute_graphql(services: Services) -> None:
    may_be_made = threading.Event()

    def make() -> Executor:
        assert may_be_made.wait(DEADLINE_S)
        return make_executor()

    with Web(services, make_executor=make) as web:
        viewer = web.begin(VIEWER)
        assert web.get("/hpo/health").status_code == 200
        assert not viewer.done()
        may_be_made.set()
        assert web.wait_for(viewer).json() == {"data": {"viewer": {"entity": "local"}}}


def test_a_server_starts_without_importing_modules_that_few_requests_need() -> None:
    code = "import sys, parallel_hpo.server.http.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    needless = {"graphql", "numpy", "scipy", "optuna", "jinja2", "alembic", "wandb", "pydantic"}
    assert needless.isdisjoint(loaded.stdout.split())


def basic(key: str) -> str:
    return f"Basic {b64encode(f'api:{key}'.encode()).decode()}"


WRONG = ["", "b" * 40, "w0-" + "c" * 64, worker_key("d" * 40, "w0")]
MALFORMED_LOGINS = ["Bearer x", "Basic", "Basic %%%", "Basic Zm9v", "Basic /w=="]


@pytest.mark.parametrize("header", [None, *map(basic, WRONG), *MALFORMED_LOGINS])
def test_a_wrong_missing_or_malformed_key_is_refused(services: Services, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    with Web(services, None) as web:
        for path in ("/graphql", "/files/local/p/r/file_stream"):
            assert web.post(path, json={"query": VIEWER}, headers=headers).status_code == 401
        for path in ("/hpo/sweeps/local/p/s", "/nothing"):
            assert web.get(path, headers=headers).status_code == 401


def test_the_health_endpoint_needs_no_key(services: Services) -> None:
    with Web(services, None) as web:
        response = web.get("/hpo/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "server": OUR_NAME})


LOOPBACK = ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:99", "[::1]"]
OTHERS = ["evil.example", "127.0.0.1.evil.example:80", "", "[::1].evil.example", "[::1]x"]
OTHERS += ["localhost:80:80", "localhost:x"]


@pytest.mark.parametrize(
    ("host", "status"), [*((host, 200) for host in LOOPBACK), *((host, 400) for host in OTHERS)]
)
def test_a_loopback_server_refuses_other_host_names_against_dns_rebinding(
    web: Web, host: str, status: int
) -> None:
    for path in ("/hpo/health", "/"):
        assert web.get(path, headers={"Host": host}).status_code == status


def test_a_server_on_all_interfaces_accepts_any_host_name(services: Services) -> None:
    with Web(services, host="0.0.0.0") as web:
        assert web.get("/hpo/health", headers={"Host": "gpu17:80"}).status_code == 200


@pytest.mark.parametrize(
    ("proto", "host", "begins"),
    [
        ("", "", "http://127.0.0.1:1234/uploads/"),
        ("https", "", "https://127.0.0.1:1234/uploads/"),
        ("https, http", "hpo.example:8443, inner", "https://hpo.example:8443/uploads/"),
        ("javascript", "a@b/c", "http://127.0.0.1:1234/uploads/"),
    ],
)
def test_upload_urls_use_the_scheme_and_host_that_a_proxy_forwards(
    web: Web, proto: str, host: str, begins: str
) -> None:
    query = """mutation C { createRunFiles(input: {
        entityName: "local", projectName: "p", runName: "r", files: ["a"]}) { files { uploadUrl } } }"""
    forwarded = {"X-Forwarded-Proto": proto, "X-Forwarded-Host": host}
    headers = {name: value for name, value in forwarded.items() if value}
    answer = web.post("/graphql", json={"query": query}, headers=headers).json()
    (file,) = answer["data"]["createRunFiles"]["files"]
    assert file["uploadUrl"].startswith(begins)
    path = "/uploads/" + file["uploadUrl"].removeprefix(begins)
    assert web.put(path, content=b"bytes").status_code == 200


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("query X { nothing }", "Cannot query field 'nothing'"),
        ("query X { entity { user { organizations { orgEntity { name } } } } }", "no registries"),
        ("query X { viewer { ", "Syntax Error"),
        ("{viewer{teams{edges" * 20 + "}" * 60, "nested too deeply"),
        ("", "Syntax Error"),
        ("query X($a: Int!) { viewer { id } }", "Variable"),
        *((HEARD_STATE.replace("STATE", state), "runState") for state in ("{", "[1]", "1")),
    ],
)
def test_an_invalid_graphql_query_returns_errors_and_no_data(web: Web, query: str, message: str) -> None:
    response = web.post("/graphql", json={"query": query, "variables": {}})
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert message in response.json()["errors"][0]["message"]


def test_a_heartbeat_of_an_unknown_agent_is_not_found(web: Web) -> None:
    assert web.post("/graphql", json={"query": BEAT, "variables": {"a": "x"}}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff", b"[]", b"1", b"[" * 100_000, b"1" * 5000, b'{"query": 1}'),
        b'{"query": "q", "variables": []}',
        b'{"query": "query { viewer { id } }", "operationName": "\\ud800"}',
    ],
)
def test_a_malformed_graphql_body_is_refused(web: Web, body: bytes) -> None:
    assert web.post("/graphql", content=body).status_code == 400


def test_decompression_stops_at_the_size_limit_of_a_body(web: Web) -> None:
    body = gzip.compress(b" " * (64 * 2**20 + 1))
    answer = web.post("/graphql", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert len(decoder("gzip").decode(gzip.compress(bytes(2**20)), 100)) == 100


PACKED = gzip.compress(b"{}", mtime=0)


@pytest.mark.parametrize("bad", [b"{}", b"", PACKED[:-1], PACKED + b"x"])
def test_an_invalid_gzip_body_or_another_content_encoding_is_refused(web: Web, bad: bytes) -> None:
    response = web.post("/graphql", content=bad, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400
    assert response.json()["error"] == "the body is not valid gzip, as its Content-Encoding says"
    assert web.post("/graphql", content=b"{}", headers={"Content-Encoding": "br"}).status_code == 415


def test_a_busy_database_is_answered_with_503(services: Services) -> None:
    other = Services(services.folder, where=services.where, busy_timeout_s=0.01)
    query = {"query": 'mutation U { upsertBucket(input: {name: "r"}) { bucket { name } } }'}
    with Web(other) as web:
        with services.world.database.write():
            assert web.post("/graphql", json=query).status_code == 503
        assert web.post("/graphql", json=query).status_code == 200
    other.close()


def test_a_database_error_is_answered_with_500(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    services = Services(tmp_path)
    with services.world.database.write() as transaction:
        transaction.execute(text("DROP TABLE agents"))
    with Web(services) as web:
        assert web.post("/graphql", json={"query": BEAT, "variables": {"a": "a"}}).status_code == 500
    services.close()
    assert "no such table: agents" in caplog.text


def test_a_heartbeat_does_not_wait_for_a_query(services: Services) -> None:
    services.upsert("r")
    agent = services.agent(services.sweep(grid(1)))
    with services.world.database.write() as transaction:
        files.put(transaction, File(services.run("r").id, "f", 1, "0" * 32, START))
    asked, go_on = threading.Event(), threading.Event()

    def clock() -> float:
        """Hold up the query, which asks for the time to sign an address."""
        if threading.current_thread().name.startswith("queries"):
            asked.set()
            assert go_on.wait(DEADLINE_S)
        return START

    services.world = replace(services.world, clock=clock)
    with Web(services) as web:
        query = web.begin(ADDRESSES)
        web.wait_for(asyncio.to_thread(asked.wait, DEADLINE_S))
        assert "data" in web.ask(BEAT, a=agent)
        assert not query.done()
        go_on.set()
        assert web.wait_for(query).status_code == 200


def test_a_worker_key_labels_its_agents_but_is_refused_by_supervisor_endpoints(services: Services) -> None:
    sweep = services.sweep(grid(2))
    base = f"/hpo/sweeps/local/p/{sweep}"
    with Web(services, worker_key(MASTER_KEY, "w0_1")) as worker:
        agent = worker.done(REGISTER, s=sweep)["createAgent"]["agent"]["id"]
        assert worker.get(base).status_code == 403
        assert worker.post(f"{base}/release", json={"label_prefix": "w"}).status_code == 403
    name = services.issued(agent)
    assert services.release(sweep, "w0_") == [name]


def test_a_supervisor_releases_and_ends_runs_and_sets_a_sweeps_state(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(4))
    unstarted = services.issued(services.agent(sweep, "w0"))
    started = services.begun(sweep, "w1")
    base = f"/hpo/sweeps/local/p/{sweep}"
    assert web.post(f"{base}/release", json={"label_prefix": "w0"}).json() == {"released": [unstarted]}
    assert web.post(f"{base}/runs/{started}/end", json={"state": "crashed"}).json() == {"state": "crashed"}
    progress = web.get(base).json()
    assert progress["state"] == "RUNNING"
    assert {name: n for name, n in progress["runs"].items() if n} == {"pending": 1, "crashed": 1}
    assert web.post(f"{base}/state", json={"state": "FINISHED"}).json() == {"state": "FINISHED"}
    assert web.get(base).json()["state"] == "FINISHED"


NOT_RELEASING: list[Any] = [{}, [], {"label_prefix": ""}, {"label_prefix": "w", "keep": "r"}]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        *(("/release", body, 400) for body in NOT_RELEASING),
        ("/state", {"state": 1}, 400),
        ("/runs/nobody/end", {"state": "crashed"}, 404),
        ("/runs/nobody/end", {"state": "running"}, 400),
        ("none/state", {"state": "FINISHED"}, 404),
    ],
)
def test_an_invalid_supervisor_request_is_refused_with_an_error(
    services: Services, web: Web, path: str, body: Any, status: int
) -> None:
    response = web.post(f"/hpo/sweeps/local/p/{services.sweep(grid(4))}{path}", json=body)
    assert (response.status_code, bool(response.json()["error"])) == (status, True)


def test_a_sweep_is_found_in_its_own_project_only(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    services.upsert("other", project="q")
    assert web.ask(SWEEP, s=sweep)["data"]["project"]["sweep"] == {"state": "PENDING"}
    assert web.ask(SWEEP.replace('"p"', '"q"'), s=sweep)["data"]["project"]["sweep"] is None


def test_a_worker_sees_prior_runs_but_none_of_another_sweep(services: Services, web: Web) -> None:
    other = services.sweep(grid(1))
    name = services.issued(services.agent(other))
    services.upsert("unasked")
    prior = services.sweep(grid(2), prior_runs=json.dumps({"name": {"$in": ["r", name]}}))

    def shown(asker: Web, sweep: str) -> list[str]:
        runs = asker.ask(PRIOR, s=sweep)["data"]["project"]["sweep"]["priorRuns"]
        return [edge["node"]["name"] for edge in runs["edges"]]

    assert (shown(web, prior), shown(web, other)) == (["r", name], [])
    with Web(services, worker_key(MASTER_KEY, "w0", prior)) as worker:
        assert shown(worker, prior) == ["r"]


def test_an_issued_run_has_no_config_until_its_client_starts_it(services: Services, web: Web) -> None:
    sweep = services.sweep(grid(5))
    name = services.issued(services.agent(sweep))
    query = """query R($n: String!) { model(name: "p", entityName: "local") {
        bucket(name: $n, missingOk: true) { wandbConfig(keys: ["t"]) historyTail } } }"""
    bucket = {"wandbConfig": None, "historyTail": "[]"}
    assert web.ask(query, n=name)["data"]["model"]["bucket"] == bucket
    services.start(sweep, name)
    assert web.ask(query, n=name)["data"]["model"]["bucket"]["wandbConfig"] == '{"t": 1}'
