"""The installed wheel: the quickstart's sweep and the commands around it work without a checkout.

Dependencies come from this environment, without network. `scripts/test-wheel` installs all into an empty
one, and runs these tests on it.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import pytest

from parallel_hpo.core.version import __version__
from parallel_hpo.server.store.tables import HEAD
from tests.distribution.conftest import ROOT, Built, installed

pytestmark = pytest.mark.thorough

EXAMPLE: Final = ROOT / "scripts" / "example"
OLD_DATABASE: Final = ROOT / "tests" / "server" / "store" / "server-0004.sql"
USERS_FILE: Final = Path(__file__).with_name("users_file.py")
OURS: Final = {
    "PARALLEL_HPO_WORKERS": "2",
    "PARALLEL_HPO_BACKEND": "local",
    "PARALLEL_HPO_DIRECTORY": "sweeps",
}


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    given: Path | None = request.config.getoption("--installed-in")
    if given is not None:
        return given.absolute()
    built: Built = request.getfixturevalue("built")
    return installed(built.wheel, tmp_path_factory.mktemp("installed"))


def call(*command: str | Path, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in a folder outside the checkout."""
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done


def test_the_installed_package_is_imported_from_the_wheel_and_prints_its_version(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    asked = "import parallel_hpo; print(parallel_hpo.__file__)"
    place = call(python, "-c", asked, folder=tmp_path, env=clean_env).stdout
    assert place.startswith(str(python.parents[1]))
    version = call(python.with_name("parallel-hpo"), "--version", folder=tmp_path, env=clean_env)
    assert version.stdout == f"parallel-hpo {__version__}\n"


def test_the_quickstart_its_pages_the_report_and_the_doctor_work(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    for name in ("train.py", "config.json"):
        shutil.copy(EXAMPLE / name, tmp_path)
    env, hpo = clean_env | OURS, python.with_name("parallel-hpo")
    call(python, "train.py", folder=tmp_path, env=env)
    (status,) = json.loads(call(hpo, "status", "--json", folder=tmp_path, env=env).stdout)
    assert (status["finished"], status["failed"], status["rows"] > 0) == (2, 0, True)
    assert_pages_are_whole(python, status["sweep"], folder=tmp_path, env=env)
    call(hpo, "report", status["sweep"], "--output", "report.html", folder=tmp_path, env=env)
    assert status["sweep"] in (tmp_path / "report.html").read_text()
    said = call(hpo, "doctor", "config.json", "train.py:main", folder=tmp_path, env=env).stdout
    assert "GOOD     target" in said


def assert_pages_are_whole(python: Path, sweep: str, *, folder: Path, env: dict[str, str]) -> None:
    """Fetch the sweep's page as a browser does, with its files and the modules that they import."""
    command: list[str | Path] = [python.with_name("parallel-hpo"), "open", sweep]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            fetch = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            page = urllib.request.Request(address, headers={"Accept": "text/html"})
            text = fetch.open(page).read().decode()
            files = re.findall(r'(?:href|src)="([^"]+\.(?:css|js))"', text)
            assert len(files) >= 3
            for file in files:
                script = fetch.open(urljoin(address, file)).read().decode()
                for other in re.findall(r'^import .* from "(\./[^"]+)"', script, re.MULTILINE):
                    assert fetch.open(urljoin(urljoin(address, file), other)).status == 200
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_a_database_of_an_earlier_version_is_migrated(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "server.db")) as db:
        db.executescript(OLD_DATABASE.read_text())
    call(python.with_name("parallel-hpo"), "clean", "--database", "server.db", folder=tmp_path, env=clean_env)
    with closing(sqlite3.connect(tmp_path / "server.db")) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_a_users_file_passes_strict_mypy(python: Path, tmp_path: Path, clean_env: dict[str, str]) -> None:
    shutil.copy(USERS_FILE, tmp_path)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={python}"]
    done = call(*mypy, USERS_FILE.name, folder=tmp_path, env=clean_env)
    assert done.stdout.startswith("Success")
