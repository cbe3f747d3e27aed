"""Contents of a release: the package and nothing else, its version, and its dependencies."""

from __future__ import annotations

import ast
import re
import sys
import tarfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import pytest
import typer
import yaml

import parallel_hpo
from parallel_hpo.cli.app import app
from tests.distribution.conftest import Built, tracked
from tests.test_imports import PACKAGE, imports_of
from tests.test_imports import ROOT as SOURCES

NOT_IN_THE_SDIST: Final = ".ci/"
"""Only for maintainers of the repository."""
GIVEN: Final = {"IPython"}
"""Imported only within a notebook."""


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
    assert files == {name for name in tracked() if not name.startswith(NOT_IN_THE_SDIST)} | {"PKG-INFO"}


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
    imported = {found.library for found in imports_of(SOURCES)} - sys.stdlib_module_names - {PACKAGE}
    homes = packages_distributions()
    missing = {
        library
        for library in imported - GIVEN
        if asked.isdisjoint(map(normal, homes.get(library, [library])))
    }
    assert missing == set()


def normal(name: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_type_checked_users_file_imports_every_public_name() -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(Path(__file__).with_name("users_file.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE
        for alias in node.names
    }
    assert imported == set(parallel_hpo.__all__)


BATCH: Final = Path(__file__).parents[2] / "scripts/batch"
_CALL: Final = re.compile(r"parallel[-_]hpo (run|join)\b([^\n)&;]*)")
_OPTION: Final = re.compile(r"(?<=[\s\"])--[a-z-]+")


def options_of_calls(text: str) -> list[tuple[str, set[str]]]:
    """Return the command and the options of each call."""
    calls = _CALL.findall(text.replace("\\\n", " ").replace('"${hpo[@]}"', "parallel-hpo run"))
    return [(command, set(_OPTION.findall(rest))) for command, rest in calls]


@pytest.mark.parametrize("example", sorted(BATCH.iterdir()), ids=lambda path: path.name)
def test_an_example_uses_only_existing_commands_and_options(example: Path) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    calls = options_of_calls(example.read_text())
    assert calls
    for command, options in calls:
        known = commands[command].get_params(typer.Context(commands[command]))
        assert options <= {name for each in known for name in each.opts}


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
