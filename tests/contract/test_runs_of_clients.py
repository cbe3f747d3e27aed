"""Runs outside of sweeps: resumed, long, edited, and through an outage of the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.contract.serving import CLIENTS, DEADLINE_S, Server, answers_in, serving


def test_a_resumed_run_goes_on_where_it_was(server: Server) -> None:
    answers = server.client("resume.py")
    assert answers["resumed"]
    assert answers["rows"] == [[0, 1], [1, 2], [2, 3]]
    assert answers["state"] == "finished"
    assert "already exists" in answers["never"]
    assert "does not exist" in answers["must"]


def test_a_history_is_exact_beyond_one_page_and_a_run_can_be_edited(server: Server) -> None:
    answers = server.client("long_history.py")
    assert (answers["all"], answers["keys"], answers["some"], answers["sampled"]) == (True, True, True, 50)
    assert answers["config"] == {"k": 3}
    assert answers["tags"] == ["first", "second"]
    assert answers["extra"] == 1.5
    assert answers["state"] == "finished"
    assert answers["found"] == ["long"]


def test_a_client_goes_on_when_a_killed_server_is_back(
    clean_env: dict[str, str], tmp_path: Path, database: str | None
) -> None:
    with serving(tmp_path, clean_env, database) as server:
        assert log_through_an_outage(server) == {"state": "finished", "rows": list(range(100))}


def log_through_an_outage(server: Server) -> Any:
    client = subprocess.Popen(
        [sys.executable, str(CLIENTS / "outage.py")],
        env=server.client_env,
        cwd=server.env["HOME"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "logged\n"
        server.kill()
        server.start()
        said, _ = client.communicate("\n", timeout=DEADLINE_S)
    finally:
        client.kill()
        client.communicate()
    return answers_in(said)
