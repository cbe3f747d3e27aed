"""The embedded server as the session uses it: a real process, really killed."""

from __future__ import annotations

import json
import queue
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from parallel_hpo.client.base import PACE, OpenedSweep, RunCall, SweepRequest
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.client.server_client import ServerClient
from parallel_hpo.core import server_files
from parallel_hpo.core.errors import BackendError, ConfigError, ExitCode
from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.core.types import RunId, SweepId, SweepPath
from parallel_hpo.processes.fork_server import COMMAND
from parallel_hpo.processes.pool import ChildCalls
from tests.conftest import clean_env_in
from tests.process_pool.pooling import DEADLINE_S, is_gone, marked, opened_pool, surroundings
from tests.server.application import BEAT, REGISTER
from tests.threads import answering_in_a_thread

GRID: Final = {
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"x": {"values": [1, 2, 3]}},
}
NEW: Final = SweepRequest(GRID, "project", None, None)
ANY_SWEEP: Final = SweepPath("me", "p", SweepId("s"))

OWNER: Final = """
import os, signal, sys
from pathlib import Path
from parallel_hpo.client.own_servers import LocalBackend
backend = LocalBackend(Path(sys.argv[1]), dict(os.environ))
backend.open()
print("open", flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def run_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunCall]:
    """Call the wandb client in a child process."""
    home = tmp_path_factory.mktemp("home")
    environment = marked({"HOME": str(home), "WANDB_DIR": str(home)})
    with opened_pool(environment, command=COMMAND) as pool:
        yield ChildCalls(pool, surroundings(environment)).run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the server that is shared by tests, each with its own sweep."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[LocalBackend]:
    with clean_env_in(folder / "home") as environment, opened(folder, environment) as backend:
        yield backend


@pytest.fixture
def own(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[LocalBackend]:
    """A server for one test."""
    with opened(tmp_path / "data", clean_env) as backend:
        yield backend


@pytest.fixture
def sweep(backend: LocalBackend, run_call: RunCall) -> OpenedSweep:
    return backend.open_sweep(NEW, run_call)


@contextmanager
def opened(
    folder: Path, environment: Mapping[str, str], on_lost: Callable[[str], None] = print, **options: Any
) -> Iterator[LocalBackend]:
    with closing(LocalBackend(folder, marked(environment), **options)) as backend:
        backend.open(on_lost)
        yield backend


def server_of(process: psutil.Process, folder: Path) -> psutil.Process:
    """Return the child of the process that is the server of this folder, once it exists.

    Its command line is readable only a moment after its start: exec closes descriptors, for which
    the parent waits, before it sets the arguments.
    """
    deadline = time.monotonic() + DEADLINE_S
    found: list[psutil.Process] = []
    while not found and time.monotonic() < deadline:
        found = servers_of(process, folder)
    (server,) = found
    return server


def servers_of(process: psutil.Process, folder: Path) -> list[psutil.Process]:
    return [child for child in process.children() if str(folder / "server.db") in child.cmdline()]


def ask(environment: Mapping[str, str], query: str, **variables: str) -> Any:
    """Send a request as a worker's client with these variables, and return the only field of its answer."""
    url, login = f"{environment['WANDB_BASE_URL']}/graphql", ("api", environment["WANDB_API_KEY"])
    body = {"query": query, "variables": variables}
    answer = httpx.post(url, json=body, auth=login, trust_env=False, timeout=DEADLINE_S)
    (field,) = answer.raise_for_status().json()["data"].values()
    return field


def issued(backend: LocalBackend, sweep: OpenedSweep, label: str) -> str:
    """Request a run as a new agent of the worker `label`, and return the run's id."""
    environment = backend.client_environment(label)
    agent = ask(environment, REGISTER, s=sweep.path.sweep_id)["agent"]["id"]
    (command,) = json.loads(ask(environment, BEAT, a=agent)["commands"])
    return str(command["run_id"])


def test_a_created_sweep_can_be_joined_after_a_restart_of_the_server(
    tmp_path: Path, clean_env: dict[str, str], run_call: RunCall
) -> None:
    with opened(tmp_path, clean_env) as backend:
        first = backend.open_sweep(NEW, run_call)
    assert (first.path.entity, first.path.project) == ("local", "project")
    assert first.path.sweep_id in first.url
    with opened(tmp_path, clean_env) as backend:
        joined = backend.open_sweep(SweepRequest(None, "project", None, first.path.sweep_id), run_call)
    assert joined.path == first.path
    for opened_ in (first, joined):
        assert {name: opened_.configuration[name] for name in GRID} == GRID


def test_a_sweep_has_no_end_reason_until_it_is_finished(backend: LocalBackend, sweep: OpenedSweep) -> None:
    assert backend.end_reason(sweep.path) is None
    backend.finish_sweep(sweep.path)
    assert backend.end_reason(sweep.path) == "the sweep is finished"


def test_a_deleted_sweep_has_ended_and_finishing_it_has_no_effect(
    backend: LocalBackend, sweep: OpenedSweep, folder: Path
) -> None:
    with closing(sqlite3.connect(folder / "server.db", timeout=DEADLINE_S)) as db, db:
        db.execute("DELETE FROM sweeps WHERE id = ?", [sweep.path.sweep_id])
    assert backend.end_reason(sweep.path) == "the sweep was deleted from its server"
    backend.finish_sweep(sweep.path)


def test_a_dead_workers_unstarted_run_is_requeued_unless_it_is_kept(
    backend: LocalBackend, sweep: OpenedSweep
) -> None:
    lost, kept = issued(backend, sweep, "worker_1"), issued(backend, sweep, "worker_2")
    backend.requeue_runs(sweep.path, "worker_1", [])
    backend.requeue_runs(sweep.path, "worker_2", [RunId(kept)])
    assert issued(backend, sweep, "worker_3") == lost
    assert issued(backend, sweep, "worker_4") not in (lost, kept)


def test_a_refused_request_is_an_error_with_its_address(backend: LocalBackend, sweep: OpenedSweep) -> None:
    with pytest.raises(BackendError, match=rf"^http://127\.0\.0\.1:\d+/hpo/sweeps/{sweep.path}/runs/nobody/"):
        backend.end_run(sweep.path, RunId("nobody"), "crashed")


def test_a_killed_server_is_restarted_at_the_same_address_with_its_data(
    tmp_path: Path, own: LocalBackend, run_call: RunCall
) -> None:
    sweep = own.open_sweep(NEW, run_call)
    address = own.client_environment("worker_1")["WANDB_BASE_URL"]
    run = issued(own, sweep, "worker_1")
    kill_server(tmp_path / "data")
    assert own.end_reason(sweep.path) is None
    own.requeue_runs(sweep.path, "worker_1", [])
    assert issued(own, sweep, "worker_2") == run
    assert own.client_environment("worker_1")["WANDB_BASE_URL"] == address


@pytest.mark.parametrize("state", ["answers", "has not answered yet", "hangs"])
def test_closing_ends_the_server(tmp_path: Path, clean_env: dict[str, str], state: str) -> None:
    with opened(tmp_path, clean_env) as backend:
        server = server_of(psutil.Process(), tmp_path)
        if state == "answers":
            backend.wait_until_up()
        elif state == "hangs":
            server.suspend()
    assert is_gone(server.pid)


def kill_server(folder: Path) -> None:
    server = server_of(psutil.Process(), folder)
    server.kill()
    server.wait(DEADLINE_S)


def test_until_the_backoff_of_a_killed_server_ends_requests_share_one_timeout(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    with opened(tmp_path, clean_env, restart_backoff_s=(600.0,), away_limit_s=1.0) as backend:
        backend.wait_until_up()
        kill_server(tmp_path)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(BackendError):
                backend.end_run(ANY_SWEEP, RunId("r"), "crashed")
        assert time.monotonic() - began < 10
        assert servers_of(psutil.Process(), tmp_path) == []


def test_a_server_that_fails_at_each_restart_is_lost_after_some_attempts(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with opened(tmp_path, clean_env, lost.put, restart_backoff_s=(0.0, 0.01)) as backend:
        backend.wait_until_up()
        with closing(sqlite3.connect(tmp_path / "server.db", timeout=DEADLINE_S)) as database, database:
            database.execute("UPDATE alembic_version SET version_num = 'future'")
        kill_server(tmp_path)
        why = lost.get(timeout=DEADLINE_S)
    assert why.startswith("the embedded sweep server ended 2 times in a row when it was started again")
    assert why.endswith(f"its log is {tmp_path / 'server.log'}")
    assert "revision is future" in (tmp_path / "server.log").read_text()


class Unsteady(BaseHTTPRequestHandler):
    """Answers every other request with 503, beginning with the first."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(503 if self.asked % 2 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_separate_outages_of_a_server_do_not_add_up() -> None:
    with answering_in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Unsteady)) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        client = ServerClient("k", threading.Event(), lambda: None, away_limit_s=0.2, url=url)
        for _ in range(2):
            assert client.ask("GET", ANY_SWEEP, "") == {}
            time.sleep(0.3)  # longer than the timeout for an unreachable server


def test_a_server_that_cannot_start_is_reported_with_reason_and_log(
    tmp_path: Path, clean_env: dict[str, str], run_call: RunCall
) -> None:
    (tmp_path / "server.db").mkdir()
    with opened(tmp_path, clean_env) as backend, pytest.raises(BackendError) as failed:
        backend.open_sweep(NEW, run_call)
    words = str(failed.value)
    assert words.startswith("the embedded sweep server did not start: it ended with exit code 1: ")
    assert f"can't open its database {tmp_path / 'server.db'}: unable to open database file" in words
    assert "\n" not in words
    assert str(tmp_path / "server.log") in words
    assert (tmp_path / "server.log").read_text()


def test_a_removed_database_is_reported_as_a_lost_server(
    tmp_path: Path, clean_env: dict[str, str], run_call: RunCall
) -> None:
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with opened(tmp_path, clean_env, lost.put) as backend:
        sweep = backend.open_sweep(NEW, run_call)
        (tmp_path / "server.db").unlink()
        with pytest.raises(BackendError, match="was removed or replaced"):
            backend.set_state(sweep.path, "FINISHED")
        assert "server.db was removed or replaced" in lost.get(timeout=10)


def test_no_key_is_on_a_command_line_in_an_environment_or_in_a_log(
    tmp_path: Path, clean_env: dict[str, str], own: LocalBackend, run_call: RunCall
) -> None:
    issued(own, own.open_sweep(NEW, run_call), "worker_1")
    server = server_of(psutil.Process(), tmp_path / "data")
    worker_key = own.client_environment("worker_1")["WANDB_API_KEY"]
    assert server.environ() == marked(clean_env)
    told = [*server.cmdline(), (tmp_path / "data" / "server.log").read_text()]
    assert [text for text in told if re.search(r"[0-9a-f]{40}", text)] == []
    for path in filter(Path.is_file, (tmp_path / "data").rglob("*")):
        assert worker_key.encode() not in path.read_bytes(), path


def test_a_worker_ignores_other_keys_settings_and_proxies(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path, {"NO_PROXY": "intranet", "HTTP_PROXY": "http://proxy:3128"})
    environment = backend.client_environment("worker_1")
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert not Path(environment["NETRC"]).exists()
    assert not Path(environment["WANDB_CONFIG_DIR"]).exists()
    assert environment["WANDB_ERROR_REPORTING"] == "false"


@pytest.mark.parametrize(("given", "pace"), [({}, "1"), ({PACE: "5"}, "5")])
def test_logged_data_is_sent_each_second_by_default(tmp_path: Path, given: dict[str, str], pace: str) -> None:
    assert LocalBackend(tmp_path, given).client_environment("worker_1")[PACE] == pace


def test_the_server_ends_when_its_owner_is_killed(tmp_path: Path, clean_env: dict[str, str]) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "data")]
    owner = subprocess.Popen(command, env=marked(clean_env), stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout as words:
        assert words.readline() == "open\n"
    server = server_of(psutil.Process(owner.pid), tmp_path / "data")
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs([server], timeout=5)
    assert [process for process in alive if not is_gone(process.pid)] == []


def test_a_sweep_with_a_scheduler_is_refused(tmp_path: Path) -> None:
    order = SweepRequest({"method": "random", "scheduler": {"engine": "optuna"}}, None, None, None)
    with pytest.raises(ConfigError, match="`wandb sweep-scheduler`, which can't reach a server") as refused:
        LocalBackend(tmp_path, {}).open_sweep(order, lambda *_: None)
    assert refused.value.exit_code is ExitCode.USAGE


def test_login_links_work_until_the_server_closes(own: LocalBackend, tmp_path: Path) -> None:
    own.wait_until_up()
    (plate,) = server_files.registered(tmp_path / "data")
    assert plate.answers()
    (file,) = (tmp_path / "data").glob("server-*.door")
    assert file.stat().st_mode & 0o077 == 0
    key = own.client_environment(SUPERVISOR)["WANDB_API_KEY"].rpartition("-")[2]
    assert key not in file.read_text()
    first, second = own.address_of("/"), plate.address("/", time.time())
    for address in (first, second):
        answer = httpx.get(address, follow_redirects=True, trust_env=False)
        assert (answer.status_code, str(answer.url)) == (200, address.partition("?")[0])
    own.close()
    assert not plate.answers()
    assert list(server_files.registered(tmp_path / "data")) == []
