"""Runs outside of sweeps: resumed, long, edited, and through an outage of the server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.commanding import CommandLine
from tests.contract.clients.usage.steps import AS_CLIENT
from tests.contract.serving import CLIENTS, DEADLINE_S, ROOT, Server, answers_in, serving


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
    clean_env: dict[str, str], tmp_path: Path, database: str | None, commands: CommandLine
) -> None:
    with serving(tmp_path, clean_env, database, commands=commands) as server:
        assert log_through_an_outage(server, commands) == {"state": "finished", "rows": list(range(100))}


def log_through_an_outage(server: Server, commands: CommandLine) -> Any:
    stdin, go_on = os.pipe()
    stdout, output = os.pipe()
    nothing = os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(go_on, "w") as told, os.fdopen(stdout) as said:
        client = commands.onto(
            *("-m", AS_CLIENT, str(CLIENTS / "outage.py")),
            streams=[stdin, output, nothing],
            folder=ROOT,
            environment=server.client_env,
        )
        for stream in (stdin, output, nothing):
            os.close(stream)
        try:
            assert said.readline() == "logged\n"
            server.kill()
            told.write("\n")
            told.flush()
            server.start()
            client.wait(DEADLINE_S)
        finally:
            client.kill()
        return answers_in(said.read())
