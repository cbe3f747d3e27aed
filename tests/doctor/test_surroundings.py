"""The doctor's checks of wandb's client, the machine and targets."""

from __future__ import annotations

import json
import os
import resource
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.config.section import BackendChoice, HpoSection, StartMethod
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor import DoctorSubject, Finding, Level, examine
from parallel_hpo.doctor.client import OLDEST, examine_client, is_too_old
from parallel_hpo.doctor.machine import examine_descriptors, examine_places, examine_start_method
from tests.commanding import CommandLine
from tests.contract.moves import LookedAt

ROOT = Path(__file__).parents[2]


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.subject: finding.level for finding in findings}


@pytest.mark.parametrize("name", ["WANDB_AGENT_DISABLE_FLAPPING", "WANDB_RUN_ID", "WANDB_SERVICE", "RANK"])
def test_a_misleading_variable_is_named(name: str) -> None:
    findings = list(examine_client({name: "true"}, BackendChoice.LOCAL))
    (found,) = [finding for finding in findings if finding.subject == "environment"]
    assert found.level is Level.WARNING
    assert found.advice == f"unset {name}"


def test_an_impossible_backend_is_bad(tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    assert levels(list(examine_client(nobody, BackendChoice.WANDB)))["backend"] is Level.BAD
    assert levels(list(examine_client(nobody, BackendChoice.LOCAL)))["backend"] is Level.GOOD


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("0.28.1", True),
        ("0.9.7", True),
        ("0.28.2", False),
        ("0.31.0", False),
        ("0.32.0rc1", False),
        ("1.0", False),
    ],
)
def test_an_unsupported_release_of_wandb_is_too_old(version: str, old: bool) -> None:
    assert is_too_old(version) is old


def test_the_oldest_release_is_that_of_pyproject() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"wandb>={'.'.join(map(str, OLDEST))}" in asked
    assert LookedAt.read().releases[0] == ".".join(map(str, OLDEST))


def test_wandbs_version_is_shown() -> None:
    (wandb, _) = examine_client({}, BackendChoice.LOCAL)
    assert (wandb.subject, wandb.level) == ("wandb", Level.GOOD)


def test_spawn_is_a_warning() -> None:
    assert examine_start_method(StartMethod.SPAWN).level is Level.WARNING


def test_too_many_workers_for_the_open_files_limit_are_bad() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert examine_descriptors(1).level is Level.GOOD
    if hard != resource.RLIM_INFINITY:
        assert examine_descriptors(hard).level is Level.BAD


def test_a_directory_that_cannot_be_created_is_bad(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    *_, finding = examine_places(tmp_path / "file" / "sweeps")
    assert (finding.subject, finding.level) == ("directory", Level.BAD)
    *_, other = examine_places(tmp_path / "new" / "sweeps")
    assert "MB free" in other.text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such place")
def test_missing_shared_memory_is_a_warning(tmp_path: Path) -> None:
    found = levels(list(examine_places(tmp_path, shared=tmp_path / "shm")))
    assert found[str(tmp_path / "shm")] is Level.WARNING


Examine = Callable[..., Finding]


@pytest.fixture
def on_target(tmp_path: Path, clean_env: dict[str, str], commands: CommandLine) -> Examine:
    """Returns the findings on a file's `main`."""

    def examined(source: str, **keys: Any) -> Finding:
        (tmp_path / "train.py").write_text(source)
        section = json.dumps({"sweep_id": "x", **keys})
        words = (str(Path(__file__).with_name("target_of_file.py")), str(tmp_path / "train.py"), section)
        stdout, stderr = commands.python(*words, folder=tmp_path, environment=clean_env).communicate()
        assert stdout, stderr
        found = json.loads(stdout)
        return Finding(**found | {"level": Level(found["level"])})

    return examined


@pytest.mark.parametrize(
    ("source", "level", "words"),
    [
        ("def main(): pass\n", Level.GOOD, "can be loaded, called and pickled"),
        ("import nonsuch_module\n", Level.BAD, "nonsuch_module"),
        ("def main(x): pass\n", Level.BAD, "without arguments"),
        ("def other(): pass\n", Level.BAD, "has no 'main'"),
        ("import os\nos._exit(3)\n", Level.BAD, "died"),
        ("import threading\nmain = threading.Lock().acquire\n", Level.WARNING, "can't be sent"),
    ],
)
def test_a_target_is_tried_in_a_child(on_target: Examine, source: str, level: Level, words: str) -> None:
    finding = on_target(source)
    assert finding.level is level, finding
    assert words in finding.text


def test_a_preload_that_fails_is_bad(on_target: Examine) -> None:
    finding = on_target("def main(): pass\n", preload=["nonsuch_module"])
    assert finding.level is Level.BAD
    assert "hpo.preload: importing nonsuch_module failed" in finding.text


def test_the_examination_shows_the_number_of_workers(tmp_path: Path) -> None:
    section = HpoSection.model_validate({"sweep_id": "x", "backend": "local", "directory": str(tmp_path)})
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "3,5"}
    findings = list(examine(DoctorSubject(section), environment, open_library=lambda: NoDriver("none")))
    (workers,) = [finding for finding in findings if finding.subject == "workers"]
    assert workers.text == "2 on 3, 5"


def test_an_impossible_number_of_workers_is_bad(tmp_path: Path) -> None:
    section = HpoSection.model_validate({"sweep_id": "x", "workers": 3, "directory": str(tmp_path)})
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "3,5"}
    findings = list(examine(DoctorSubject(section), environment, open_library=lambda: NoDriver("none")))
    assert levels(findings)["workers"] is Level.BAD


def test_a_directory_on_a_network_is_a_warning(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / nfs4 rw 0 0\n")
    *_, finding = examine_places(tmp_path / "sweeps", mounts=mounts)
    assert (finding.subject, finding.level) == ("directory", Level.WARNING)
    assert "on the network (nfs4)" in finding.text
