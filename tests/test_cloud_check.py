"""scripts/cloud_check: it asks first; its rows are tried on a server of ours that passes for a stranger's."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.cloud_rows import rows
from scripts.cloud_rows.rows import ROWS
from scripts.cloud_rows.stage import SessionSetup, Swept
from tests.conftest import make_clean_env
from tests.contract.proxy import Harm, proxying
from tests.contract.serving import Server, serving

ROOT: Final = Path(__file__).parents[1]
RUNS: Final = ("a", "b", "c", "d")


def cloud_check(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "cloud_check"), *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (("--yes",), "", "WANDB_API_KEY is not set"),
        ((), "k" * 40, "add --yes"),
        (("--yes", "gird"), "k" * 40, "no row gird; there are grid, random"),
    ],
)
def test_without_a_key_or_leave_or_a_known_row_nothing_begins(
    tmp_path: Path, words: tuple[str, ...], key: str, message: str
) -> None:
    # Nobody answers at this address: whatever was asked of a server would say so.
    account = {"WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = cloud_check(*words, environment=make_clean_env(tmp_path) | account)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@dataclass
class Told(SessionSetup):
    """A stage on which the sweep and the server say what the test says."""

    swept: Swept = field(kw_only=True)
    shown: dict[str, Any] = field(kw_only=True)

    def sweep(self, main: str, sweep: Any, **keys: Any) -> Swept:
        return self.swept

    def ask_until(self, sweep_id: str, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return self.shown


@pytest.mark.parametrize(
    ("shown", "phantoms", "whole"),
    [
        (RUNS, [], True),
        (RUNS[:3], [], False),
        ((*RUNS, "more"), [], False),
        ((*RUNS, "more"), ["more"], True),
    ],
)
def test_a_sweep_is_as_promised_only_where_the_server_shows_exactly_its_runs(
    tmp_path: Path, shown: tuple[str, ...], phantoms: list[str], whole: bool
) -> None:
    summary = {
        "sweep_id": "s",
        "finished": 4,
        "phantoms": phantoms,
        "runs": [{"run_id": each} for each in RUNS],
    }
    there = {"state": "FINISHED", "runs": dict.fromkeys(shown, "finished")}
    stage = Told(tmp_path, "p", swept=Swept(0, summary, "", []), shown=there)
    assert rows.BY_NAME["grid"].check(stage).whole is whole


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, make_clean_env(tmp_path / "home")) as server:
        yield server


@pytest.mark.timeout(900)
@pytest.mark.thorough
def test_every_row_is_as_promised_with_a_strangers_server_and_no_run_stays_there(
    tmp_path: Path, server: Server
) -> None:
    with proxying(server.said["url"]) as proxy:
        # What our own servers answer here is how parallel_hpo tells them from W&B's.
        proxy.choose = lambda message: Harm.GONE_404 if message.path.startswith("/hpo") else Harm.NONE
        account = {
            "WANDB_BASE_URL": proxy.url.replace("127.0.0.1", "localhost"),
            "WANDB_API_KEY": server.said["api_key"],
        }
        clean = make_clean_env(tmp_path / "user") | {"PATH": os.environ["PATH"]}
        done = cloud_check("--yes", environment=clean | account)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = re.findall(r"^\| ([\w-]+) \| .*? \| as promised \|", done.stdout, re.MULTILINE)
    assert verdicts == [*(row.name for row in ROWS), "removal"]
    assert server.said["api_key"] not in done.stdout + done.stderr
    with closing(sqlite3.connect(server.folder / "server.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)
