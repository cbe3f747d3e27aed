"""The doctor on many machines, each a folder here with a real process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from parallel_hpo.cli.doctor import check_machines
from parallel_hpo.cluster.base import ClusterMachine
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import Target
from parallel_hpo.doctor import DoctorSubject, Finding, Level
from parallel_hpo.doctor.examine import examine_machines
from parallel_hpo.doctor.findings import MachineCheck
from parallel_hpo.session.membership import versions_here
from tests.cluster.engines import NotedEngine
from tests.processes.heading import FolderEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FolderEngine]:
    """Machines gpu1 and gpu2; no process can be started on gpu2."""
    for name in ("gpu1", "gpu2"):
        (tmp_path / "machines" / name).mkdir(parents=True)
    (tmp_path / "machines" / "gpu2" / "broken").touch()
    made = FolderEngine(tmp_path / "machines")
    yield made
    made.stop()


def question(**other: object) -> MachineCheck:
    asked = MachineCheck(name="", versions=versions_here(), servers=(), section={"devices": "cpu"})
    return replace(asked, **other)  # type: ignore[arg-type]


def by_subject(findings: tuple[Finding, ...]) -> Mapping[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_each_machine_has_findings_or_an_error(engine: FolderEngine, tmp_path: Path) -> None:
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


def test_missing_things_are_named_as_bad(engine: FolderEngine, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import nonsuch_module\ndef main(): pass\n")
    keys = {"sweep_id": "x", "backend": "local", "machines": {"engine": "dask", "count": 1}}
    subject = DoctorSubject(HpoSection.model_validate(keys), Target(str(tmp_path / "train.py"), "main"))
    (machine,) = check_machines(subject, {}, open_engine=lambda _: engine)
    target = by_subject(machine.findings)["target"]
    assert target.level is Level.BAD
    assert "nonsuch_module" in target.text


def test_other_versions_and_a_wrong_section_are_bad(engine: FolderEngine) -> None:
    other = replace(versions_here(), python="2.7")
    asked = question(versions=other, section={"workers": "many"})
    (machine,) = examine_machines(engine, asked, most=1)
    found = by_subject(machine.findings)
    assert found["versions"].level is Level.BAD
    assert "machine gpu1 can't join: Python" in found["versions"].text
    assert found["configuration"].level is Level.BAD
    assert "workers" in found["configuration"].text


def test_a_silent_machine_is_given_up_after_a_timeout() -> None:
    seconds = iter(range(100))
    silent = NotedEngine([ClusterMachine("gpu1", "")])
    (machine,) = examine_machines(
        silent, question(), most=None, limit_s=5.0, clock=lambda: float(next(seconds)), pause=lambda _: None
    )
    assert machine.findings[0].text.startswith("no answer within 5 s")
    assert next(seconds) < 10


def test_a_cluster_without_a_machine_is_bad() -> None:
    (nobody,) = examine_machines(NotedEngine([]), question(), most=None)
    assert (nobody.name, nobody.findings[0].level) == ("Noted", Level.BAD)


def test_a_hint_says_how_to_examine_machines_without_an_engine() -> None:
    subject = DoctorSubject(HpoSection.model_validate({"sweep_id": "x", "machines": {}}))
    (nobody,) = check_machines(subject, {}, open_engine=lambda _: None)
    assert nobody.findings[0].level is Level.BAD
    assert "run `parallel-hpo doctor` too" in nobody.findings[0].advice
