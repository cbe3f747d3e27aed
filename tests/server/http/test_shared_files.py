"""Servers on several machines, of one database: they share files and key, or don't start."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from parallel_hpo.server.files.folder import MARK
from tests.conftest import make_clean_env
from tests.postgresql import PostgreSQL

ROOT = Path(__file__).parents[3]
RUN = 'mutation R { upsertBucket(input: {name: "r", modelName: "p"}) { inserted } }'
SEND = """mutation C { createRunFiles(input: {
    entityName: "local", projectName: "p", runName: "r", files: ["a"]}) { files { uploadUrl } } }"""
FETCH = """query F { project(name: "p") { run(name: "r") { files { edges { node { directUrl } } } } } }"""


@contextmanager
def on_machine(home: Path, *options: str) -> Iterator[dict[str, str]]:
    """Run a server whose user's folders are there, and return what it says."""
    command = [sys.executable, "-m", "parallel_hpo.server", *options]
    with subprocess.Popen(
        command, env=make_clean_env(home), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.terminate()


def ask(server: dict[str, str], query: str) -> Any:
    with httpx.Client(trust_env=False, auth=("api", server["api_key"])) as client:
        answer = client.post(f"{server['url']}/graphql", json={"query": query}).json()
    return answer["data"]


def test_a_file_sent_to_one_server_is_fetched_from_another(postgresql: PostgreSQL, tmp_path: Path) -> None:
    database = postgresql.fresh()
    mounted = tmp_path / "mounted"
    with ExitStack() as machines:
        one = machines.enter_context(on_machine(tmp_path / "a", "--database", database))
        (mark,) = (tmp_path / "a").rglob(MARK)
        mounted.symlink_to(mark.parent)
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
    apart = subprocess.run(
        [sys.executable, "-m", "parallel_hpo.server", "--database", database, "--files", str(tmp_path / "x")],
        env=make_clean_env(tmp_path / "c"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (apart.returncode, apart.stdout) == (1, "")
    assert f"are thought to be in {mark.parent} on " in apart.stderr
