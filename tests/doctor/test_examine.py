"""The doctor's checks of a target, and of many machines, each a folder here with a real process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.cli.doctor import check_machines
from parallel_hpo.cluster.base import ClusterMachine
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor import DoctorSubject, Finding, Level, examine
from parallel_hpo.doctor.examine import examine_machines
from parallel_hpo.doctor.findings import MachineCheck
from parallel_hpo.session.membership import versions_here
from tests.cluster.nodes import NotedEngine
from tests.commands import start_python
from tests.processes.folder_machines import FolderEngine

Examine = Callable[..., Finding]
EXAMINE: Final = """
import json, os, sys
from dataclasses import asdict
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.doctor.examine import examine_target
section = HpoSection.model_validate_json(sys.argv[2])
*_, last = examine_target(section, Target(sys.argv[1], "main"), os.environ)
print(json.dumps(asdict(last)))
"""


@pytest.fixture
def on_target(tmp_path: Path, clean_env: dict[str, str]) -> Examine:
    """Returns the findings on a file's `main`."""

    def examined(source: str, **keys: Any) -> Finding:
        (tmp_path / "train.py").write_text(source)
        section = json.dumps({"sweep_id": "x", **keys})
        words = ("-c", EXAMINE, str(tmp_path / "train.py"), section)
        stdout, stderr = start_python(*words, folder=tmp_path, environment=clean_env).communicate()
        assert stdout, stderr
        found = json.loads(stdout)
        return Finding(**found | {"level": Level(found["level"])})

    return examined


@pytest.mark.parametrize(
    ("source", "keys", "level", "words"),
    [
        ("def main(): pass\n", {}, Level.GOOD, "can be loaded, called and pickled"),
        ("import os\nos._exit(3)\n", {}, Level.BAD, "died"),
        ("import threading\nmain = threading.Lock().acquire\n", {}, Level.WARNING, "can't be sent"),
        (
            "def main(): pass\n",
            {"preload": ["nonsuch_module"]},
            Level.BAD,
            "hpo.preload: importing nonsuch_module failed",
        ),
    ],
)
def test_a_target_is_checked_in_a_child_process(
    on_target: Examine, source: str, keys: dict[str, Any], level: Level, words: str
) -> None:
    finding = on_target(source, **keys)
    assert finding.level is level, finding
    assert words in finding.text


@pytest.mark.parametrize(("keys", "level"), [({}, Level.GOOD), ({"workers": 3}, Level.BAD)])
def test_the_number_of_workers_is_shown_or_reported_as_bad(
    tmp_path: Path, keys: dict[str, Any], level: Level
) -> None:
    section = HpoSection.model_validate(
        {"sweep_id": "x", "backend": "local", "directory": str(tmp_path)} | keys
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "3,5"}
    findings = examine(DoctorSubject(section), environment, open_library=lambda: NoDriver("none"))
    (workers,) = [finding for finding in findings if finding.subject == "workers"]
    assert workers.level is level
    assert (workers.text == "2 on 3, 5") is (level is Level.GOOD)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FolderEngine]:
    """An engine with gpu1 and gpu2; no process can be started on gpu2."""
    for name in ("gpu1", "gpu2"):
        (tmp_path / "machines" / name).mkdir(parents=True)
    (tmp_path / "machines" / "gpu2" / "broken").touch()
    made = FolderEngine(tmp_path / "machines")
    yield made
    made.stop()


QUESTION: Final = MachineCheck(name="", versions=versions_here(), servers=(), section={"devices": "cpu"})


def by_subject(findings: tuple[Finding, ...]) -> Mapping[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_each_machine_returns_findings_or_an_error(engine: FolderEngine, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def main(): pass\n")
    keys = {"sweep_id": "x", "backend": "local", "devices": "cpu", "machines": "dask"}
    subject = DoctorSubject(HpoSection.model_validate(keys), Target(str(tmp_path / "train.py"), "main"))
    found = {each.name: each.findings for each in check_machines(subject, {}, open_engine=lambda _: engine)}
    assert set(found) == {"gpu1", "gpu2"}
    there = by_subject(found["gpu1"])
    wanted = ("versions", "reach", "clock", "workers", "directory", "target")
    assert {there[subject].level for subject in wanted} == {Level.GOOD}
    assert str(tmp_path / "machines" / "gpu1" / "sweeps") in there["directory"].text
    (broken,) = found["gpu2"]
    assert (broken.subject, broken.level) == ("answer", Level.BAD)
    assert "no torch on this machine" in broken.text


def test_a_missing_module_is_a_bad_finding(engine: FolderEngine, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import nonsuch_module\ndef main(): pass\n")
    keys = {"sweep_id": "x", "backend": "local", "machines": {"engine": "dask", "count": 1}}
    subject = DoctorSubject(HpoSection.model_validate(keys), Target(str(tmp_path / "train.py"), "main"))
    (machine,) = check_machines(subject, {}, open_engine=lambda _: engine)
    target = by_subject(machine.findings)["target"]
    assert target.level is Level.BAD
    assert "nonsuch_module" in target.text


def test_different_versions_and_an_invalid_section_are_bad_findings(engine: FolderEngine) -> None:
    other = replace(versions_here(), python="2.7")
    asked = replace(QUESTION, versions=other, section={"workers": "many"})
    (machine,) = examine_machines(engine, asked, most=1)
    found = by_subject(machine.findings)
    assert found["versions"].level is Level.BAD
    assert "machine gpu1 can't join: Python" in found["versions"].text
    assert found["configuration"].level is Level.BAD
    assert "workers" in found["configuration"].text


def test_a_machine_without_an_answer_is_reported_after_a_timeout() -> None:
    seconds = iter(range(100))
    silent = NotedEngine([ClusterMachine("gpu1", "")])
    (machine,) = examine_machines(
        silent, QUESTION, most=None, limit_s=5.0, clock=lambda: float(next(seconds)), pause=lambda _: None
    )
    assert machine.findings[0].text.startswith("no answer within 5 s")
    assert next(seconds) < 10


def test_a_cluster_without_machines_or_without_an_engine_is_a_bad_finding() -> None:
    (nobody,) = examine_machines(NotedEngine([]), QUESTION, most=None)
    assert (nobody.name, nobody.findings[0].level) == ("Noted", Level.BAD)
    subject = DoctorSubject(HpoSection.model_validate({"sweep_id": "x", "machines": {}}))
    (nobody,) = check_machines(subject, {}, open_engine=lambda _: None)
    assert nobody.findings[0].level is Level.BAD
    assert "run `parallel-hpo doctor` too" in nobody.findings[0].advice
