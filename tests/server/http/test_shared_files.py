"""Servers on several machines, of one database: they share files and key, or don't start."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from parallel_hpo.server.files.folder import ID_FILE
from tests.commands import Started, start_python
from tests.conftest import make_clean_env
from tests.postgresql import PostgreSQL

RUN = 'mutation R { upsertBucket(input: {name: "r", modelName: "p"}) { inserted } }'
SEND = """mutation C { createRunFiles(input: {
    entityName: "local", projectName: "p", runName: "r", files: ["a"]}) { files { uploadUrl } } }"""
FETCH = """query F { project(name: "p") { run(name: "r") { files { edges { node { directUrl } } } } } }"""


@contextmanager
def on_machine(home: Path, *options: str) -> Iterator[dict[str, str]]:
    """Run a server whose user's folders are there, and return what it says."""
    server = started(home, *options)
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def started(home: Path, *options: str) -> Started:
    words = ("-m", "parallel_hpo.server", *options)
    return start_python(*words, folder=home.parent, environment=make_clean_env(home))


def ask(server: dict[str, str], query: str) -> Any:
    with httpx.Client(trust_env=False, auth=("api", server["api_key"])) as client:
        answer = client.post(f"{server['url']}/graphql", json={"query": query}).json()
    return answer["data"]


def test_a_file_sent_to_one_server_is_fetched_from_another(postgresql: PostgreSQL, tmp_path: Path) -> None:
    database = postgresql.fresh()
    mounted = tmp_path / "mounted"
    with ExitStack() as machines:
        one = machines.enter_context(on_machine(tmp_path / "a", "--database", database))
        (id_file,) = (tmp_path / "a").rglob(ID_FILE)
        mounted.symlink_to(id_file.parent)
        options = ("--database", database, "--files", str(mounted))
        other = machines.enter_context(on_machine(tmp_path / "b", *options))
        assert one["api_key"] == other["api_key"]
        ask(one, RUN)
        (file,) = ask(one, SEND)["createRunFiles"]["files"]
        # A balancer may send the address to either.
        address = file["uploadUrl"].replace(one["url"], other["url"])
        with httpx.Client(trust_env=False) as client:
            assert client.put(address, content=b"bytes").status_code == 200
            (edge,) = ask(one, FETCH)["project"]["run"]["files"]["edges"]
            assert client.get(edge["node"]["directUrl"]).content == b"bytes"
    apart = started(tmp_path / "c", "--database", database, "--files", str(tmp_path / "x"))
    stdout, stderr = apart.communicate(timeout=60)
    assert (apart.wait(), stdout) == (1, "")
    assert f"should be in {id_file.parent} on " in stderr
