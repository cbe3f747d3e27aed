"""What can't work is said in a line or two, before a sweep exists."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.commanding import CommandLine
from tests.contract.serving import serving
from tests.processes.conftest import MAINS, Ended, RealSweep
from tests.threads import answering_in_a_thread

KEY = "0123456789" * 4


def expect_refused(sweep: RealSweep, ended: Ended, *words: str, code: int = 2) -> None:
    assert ended.code == code, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db")), "a sweep was opened"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "has no 'nothing'; it has:"),
        ("not_a_function", "is a int, not a function"),
        ("needs_an_argument", "can't be called without arguments: missing a required argument: 'argument'"),
    ],
)
def test_a_target_that_cannot_be_called_is_refused(sweep: RealSweep, name: str, words: str) -> None:
    expect_refused(sweep, sweep.start(name, count=1).finish(), str(MAINS), words)


def test_a_target_that_cannot_be_imported_names_the_file_and_line(sweep: RealSweep, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import json\nimport no_such_module\n")
    config = tmp_path / "config.json"
    keys = {"directory": str(sweep.directory), "sweep_configuration": {"method": "random", "parameters": {}}}
    keys["sweep_configuration"] = {"method": "random", "parameters": {"x": {"value": 1}}}
    config.write_text(json.dumps({"hpo": keys}))
    ended = sweep.start_command("-m", "parallel_hpo", "run", str(config), f"{broken}:main").finish()
    expect_refused(sweep, ended, "No module named 'no_such_module'", f"({broken}, line 2)")


UNPICKLABLE = """
import sys, threading
from parallel_hpo import ConfigLoader
lock = threading.Lock()

def main():
    with lock:
        pass

ConfigLoader(sys.argv[1]).hpo.optimize(main)
"""


def test_a_sweep_is_created_for_a_main_that_only_machines_have_and_that_is_said(sweep: RealSweep) -> None:
    sweep.create(count=1)
    arguments = ("run", str(sweep.folder / "config.json"), "gone.py:main", "--create")
    ended = sweep.start_command("-m", "parallel_hpo", *arguments).finish()
    assert (ended.code, len(ended.stdout.split())) == (0, 1)
    assert "gone.py is not here: every machine needs a copy of it" in ended.stderr


def test_a_main_that_cannot_be_pickled_is_told_what_in_it_cannot(sweep: RealSweep, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNPICKLABLE)
    config = tmp_path / "config.json"
    section = {
        "directory": str(sweep.directory),
        "sweep_configuration": {"method": "random", "parameters": {"x": {"value": 1}}},
    }
    config.write_text(json.dumps({"hpo": section}))
    ended = sweep.start_command(str(script), str(config)).finish()
    assert "TargetError: main can't be sent to the workers: its global 'lock' is a lock" in ended.stderr


def test_a_server_that_cannot_be_reached_is_named(sweep: RealSweep) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        sweep.env |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "PARALLEL_HPO_BACKEND": "wandb"}
        ended = sweep.start("quick", count=1).finish()
    expect_refused(sweep, ended, f"{url} can't be reached", "Connection refused", code=1)


class _Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"no such user")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def refusing_server() -> Iterator[str]:
    with answering_in_a_thread(HTTPServer(("127.0.0.1", 0), _Refusing)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_server_that_refuses_us_is_named_with_its_answer(sweep: RealSweep, refusing_server: str) -> None:
    sweep.env |= {"WANDB_BASE_URL": refusing_server, "WANDB_API_KEY": KEY, "PARALLEL_HPO_BACKEND": "wandb"}
    ended = sweep.start("quick", count=1).finish()
    expect_refused(
        sweep, ended, f"{refusing_server} refuses the API key", "401", "no such user", "WANDB_API_KEY", code=1
    )
    assert KEY not in ended.stderr


def test_offline_mode_is_refused_for_the_wandb_backend(sweep: RealSweep) -> None:
    sweep.env |= {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "PARALLEL_HPO_BACKEND": "wandb"}
    expect_refused(sweep, sweep.start("quick", count=1).finish(), "WANDB_MODE=offline")


def test_offline_mode_is_ignored_with_a_line_for_the_local_backend(sweep: RealSweep) -> None:
    sweep.env["WANDB_MODE"] = "disabled"
    ended = sweep.start("quick", count=1).finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["finished"] == 1
    assert "WANDB_MODE=disabled is ignored" in ended.stderr


def test_where_somebody_has_said_wandb_offline_the_local_server_has_the_runs_nevertheless(
    sweep: RealSweep,
) -> None:
    (sweep.folder / "wandb").mkdir()
    (sweep.folder / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    ended = sweep.start("quick", count=1).finish()
    assert ended.code == 0, ended.stderr
    assert "mode=offline in wandb/settings is ignored" in ended.stderr
    assert ended.summary["runs"][0]["value"] is not None
    assert sweep.runs_on_the_server()


def test_the_wandb_backend_works_against_a_server_that_stands_in_for_wandbs(
    sweep: RealSweep, tmp_path: Path, commands: CommandLine
) -> None:
    (tmp_path / "its").mkdir()
    with serving(tmp_path / "its", dict(sweep.env), commands=commands) as server:
        there = server.said
        sweep.env |= {"WANDB_BASE_URL": there["url"], "WANDB_API_KEY": there["api_key"]}
        sweep.env["PARALLEL_HPO_BACKEND"] = "auto"
        ended = sweep.start("quick", count=4).finish()
    assert ended.code == 0, ended.stderr
    assert (ended.summary["backend"], ended.summary["finished"]) == ("wandb", 4)
    assert ended.summary["sweep_url"].startswith(there["url"])
    assert not (sweep.directory / "server.db").exists()
