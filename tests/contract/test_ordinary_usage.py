"""Ordinary usage of wandb, step by step; and the conformance table of the results."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract import conformance, surface
from tests.contract.clients.surface import calls
from tests.contract.serving import CLIENTS, DEADLINE_S, Server, answers_in, serving
from tests.postgresql import PostgreSQL

TABLE: Final = conformance.read(conformance.FILE.read_text(encoding="utf-8"))
INSTALLED: Final = conformance.OLDEST if version("wandb").startswith("0.28.") else conformance.NEWEST
PARTS: Final = [
    *("runs", "artifacts"),
    *(pytest.param(part, marks=pytest.mark.leans_on_wandb) for part in ("analysis", "sweeps", "commands")),
    pytest.param("tools", marks=pytest.mark.thorough),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", PARTS)
def test_the_client_finds_what_the_conformance_table_lists(server: Server, part: str) -> None:
    found = conformance.find(server, part)
    assert found == {feature: TABLE[INSTALLED].get(feature) for feature in found}


@pytest.mark.timeout(300)
def test_a_server_on_postgresql_gives_the_same_results(
    postgresql: PostgreSQL, clean_env: dict[str, str], tmp_path: Path
) -> None:
    with serving(tmp_path, clean_env, postgresql.fresh()) as server:
        found = conformance.find(server, "analysis")
    assert found == {feature: TABLE[INSTALLED].get(feature) for feature in found}


@pytest.mark.parametrize("column", [conformance.NEWEST, conformance.OLDEST])
def test_the_table_has_at_least_60_features_and_no_failure(column: str) -> None:
    assert len(TABLE[column]) >= 60
    assert set(TABLE[column].values()) <= {"works", "clear error", "not in this client"}


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_the_documented_client_api_works_the_same_in_a_sweep_and_in_plain_python(tmp_path: Path) -> None:
    found = surface.find(tmp_path, calls.all_cases())
    assert [(place.missing, place.lost) for place in found.values()] == [((), ())] * len(found)
    assert surface.differences(found) == {}


def test_a_client_continues_after_the_server_is_killed_and_restarted(
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
