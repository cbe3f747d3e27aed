"""A release's files: the package and nothing else; the installed wheel works without a checkout.

Dependencies come from this environment, without network. `scripts/test-wheel` installs all into an empty
one, and runs these tests on it.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import urllib.request
import venv
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin
from zipfile import ZipFile

import pytest
import typer
import yaml

import parallel_hpo
from parallel_hpo.cli.app import app
from parallel_hpo.server.store.tables import HEAD
from tests.test_imports import PACKAGE, imports_of
from tests.test_imports import ROOT as SOURCES

ROOT: Final = Path(__file__).parents[2]
USERS_FILE: Final = Path(__file__).with_name("users_file.py")


@dataclass(frozen=True)
class Built:
    """The files of a release."""

    wheel: Path
    sdist: Path


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment with this one's dependencies; return its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (own / "needed.pth").write_text("\n".join(theirs))
    return python


def tracked(*names: str) -> set[str]:
    """Return the tracked and untracked, not ignored files under these names; all without names."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The working tree's wheel and sdist, built by hatchling without network or an isolated environment."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def wheel(built: Built) -> ZipFile:
    return ZipFile(built.wheel)


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_contains_only_the_package(wheel: ZipFile) -> None:
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert files == tracked(PACKAGE)
    assert "parallel_hpo/py.typed" in files


def test_the_sdist_contains_all_tracked_files(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    # Those for the repository's maintainers are left out.
    assert files == {name for name in tracked() if not name.startswith(".ci/")} | {"PKG-INFO"}


def test_metadata_and_file_names_have_the_packages_version(metadata: Message, built: Built) -> None:
    assert metadata["Version"] == parallel_hpo.__version__
    assert built.wheel.name == f"parallel_hpo-{parallel_hpo.__version__}-py3-none-any.whl"
    assert built.sdist.name == f"parallel_hpo-{parallel_hpo.__version__}.tar.gz"


def test_the_wheel_has_the_command_and_the_licence(wheel: ZipFile, metadata: Message) -> None:
    (entries,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "parallel-hpo = parallel_hpo.cli:main" in wheel.read(entries).decode()
    (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert "MIT" in wheel.read(licence).decode()
    assert metadata["License-Expression"] == "MIT"


def test_every_imported_library_is_a_declared_dependency(metadata: Message) -> None:
    asked = {normal(re.split(r"[^\w.-]", line)[0]) for line in metadata.get_all("Requires-Dist", [])}
    imported = {found.library for found in imports_of(SOURCES)} - sys.stdlib_module_names
    homes = packages_distributions()
    for library in imported - {PACKAGE, "IPython"}:  # imported only within a notebook
        assert not asked.isdisjoint(map(normal, homes.get(library, [library]))), library


def normal(name: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_type_checked_users_file_imports_every_public_name() -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(USERS_FILE.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE
        for alias in node.names
    }
    assert imported == set(parallel_hpo.__all__)


BATCH: Final = ROOT / "scripts/batch"


@pytest.mark.parametrize("example", sorted(BATCH.iterdir()), ids=lambda path: path.name)
def test_an_example_uses_only_existing_commands_and_options(example: Path) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = example.read_text().replace("\\\n", " ").replace('"${hpo[@]}"', "parallel-hpo run")
    calls = re.findall(r"parallel[-_]hpo (run|join)\b([^\n)&;]*)", text)
    assert calls
    for command, rest in calls:
        known = commands[command].get_params(typer.Context(commands[command]))
        assert set(re.findall(r"(?<=[\s\"])--[a-z-]+", rest)) <= {
            name for each in known for name in each.opts
        }


def test_join_examples_pass_the_sweep_the_server_and_the_key() -> None:
    job = yaml.safe_load((BATCH / "kubernetes-join.yaml").read_text())
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    task = yaml.safe_load((BATCH / "skypilot-join.yaml").read_text())
    for names, command in (
        ({each["name"] for each in container["env"]}, container["command"][-1].removeprefix("exec ")),
        ({*task["envs"], *task["secrets"]}, task["run"]),
    ):
        assert names == {"SWEEP", "WANDB_BASE_URL", "WANDB_API_KEY"}
        assert command.startswith('parallel-hpo join "$SWEEP" ')


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


@pytest.mark.thorough
def test_the_installed_package_is_imported_from_the_wheel_and_prints_its_version(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    asked = "import parallel_hpo; print(parallel_hpo.__file__)"
    place = call(python, "-c", asked, folder=tmp_path, env=clean_env).stdout
    assert place.startswith(str(python.parents[1]))
    version = call(python.with_name("parallel-hpo"), "--version", folder=tmp_path, env=clean_env)
    assert version.stdout == f"parallel-hpo {parallel_hpo.__version__}\n"


@pytest.mark.thorough
def test_the_quickstart_its_pages_the_report_and_the_doctor_work(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    for name in ("train.py", "config.json"):
        shutil.copy(ROOT / "scripts" / "example" / name, tmp_path)
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


@pytest.mark.thorough
def test_a_database_of_an_earlier_version_is_migrated(
    python: Path, tmp_path: Path, clean_env: dict[str, str]
) -> None:
    with closing(sqlite3.connect(tmp_path / "server.db")) as db:
        db.executescript((ROOT / "tests/server/store/server-0004.sql").read_text())
    call(python.with_name("parallel-hpo"), "clean", "--database", "server.db", folder=tmp_path, env=clean_env)
    with closing(sqlite3.connect(tmp_path / "server.db")) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


@pytest.mark.thorough
def test_a_users_file_passes_strict_mypy(python: Path, tmp_path: Path, clean_env: dict[str, str]) -> None:
    shutil.copy(USERS_FILE, tmp_path)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={python}"]
    done = call(*mypy, USERS_FILE.name, folder=tmp_path, env=clean_env)
    assert done.stdout.startswith("Success")
