"""The doctor: its checks of a target, a machine, a client, a coordinator, and of many machines."""

from __future__ import annotations

import os
import resource
import secrets
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.cli.doctor import check_machines
from parallel_hpo.cluster.base import ClusterMachine
from parallel_hpo.config.section import BackendChoice, HpoSection, StartMethod
from parallel_hpo.core.types import Target
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor import DoctorSubject, examine
from parallel_hpo.doctor.client import (
    OLDEST,
    clock_difference,
    examine_client,
    examine_reach,
    is_too_old,
    servers_to_reach,
)
from parallel_hpo.doctor.examine import examine_machines, examine_target
from parallel_hpo.doctor.findings import (
    MOST_BYTES,
    Finding,
    Level,
    MachineCheck,
    ServerToReach,
    bad,
    from_output,
    good,
    to_line,
    warning,
)
from parallel_hpo.doctor.machine import (
    examine_descriptors,
    examine_devices,
    examine_places,
    examine_start_method,
)
from parallel_hpo.session.membership import versions_here
from scripts.client_operations import LookedAt
from tests.cluster.nodes import NotedEngine
from tests.devices.fakes import DEVICES, INSTANCES, STRANGER, UUIDS, FakeLibrary
from tests.processes.folder_machines import FolderEngine

MAIN: Final = "def main(): pass\n"
LOCK: Final = "import threading\nmain = threading.Lock().acquire\n"


@pytest.mark.parametrize(
    ("source", "keys", "level", "words"),
    [
        (MAIN, {}, Level.GOOD, "can be loaded, called and pickled"),
        ("import os\nos._exit(3)\n", {}, Level.BAD, "died"),
        (LOCK, {}, Level.WARNING, "can't be sent"),
        (MAIN, {"preload": ["nonsuch_module"]}, Level.BAD, "hpo.preload: importing nonsuch_module failed"),
    ],
)
def test_a_target_is_checked_in_a_child_process(
    tmp_path: Path, clean_env: dict[str, str], source: str, keys: dict[str, Any], level: Level, words: str
) -> None:
    (tmp_path / "train.py").write_text(source)
    section = HpoSection.model_validate({"sweep_id": "x", **keys})
    *_, finding = examine_target(section, Target(str(tmp_path / "train.py"), "main"), clean_env)
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
    workers = about("workers", findings)
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


def about(subject: str, findings: Iterable[Finding]) -> Finding:
    """Return the last finding on a subject."""
    return [finding for finding in findings if finding.subject == subject][-1]


def subject_of(folder: Path, source: str, **keys: Any) -> DoctorSubject:
    """Return a check of many machines with a target in this folder."""
    (folder / "train.py").write_text(source)
    keys = {"sweep_id": "x", "backend": "local", "devices": "cpu", "machines": "dask"} | keys
    return DoctorSubject(HpoSection.model_validate(keys), Target(str(folder / "train.py"), "main"))


def test_each_machine_returns_findings_or_an_error(engine: FolderEngine, tmp_path: Path) -> None:
    machines = check_machines(subject_of(tmp_path, MAIN), {}, open_engine=lambda _: engine)
    found = {each.name: each.findings for each in machines}
    assert set(found) == {"gpu1", "gpu2"}
    there = found["gpu1"]
    wanted = ("versions", "reach", "clock", "workers", "directory", "target")
    assert {about(subject, there).level for subject in wanted} == {Level.GOOD}
    assert str(tmp_path / "machines" / "gpu1" / "sweeps") in about("directory", there).text
    (broken,) = found["gpu2"]
    assert (broken.subject, broken.level) == ("answer", Level.BAD)
    assert "no torch on this machine" in broken.text


def test_a_missing_module_is_a_bad_finding(engine: FolderEngine, tmp_path: Path) -> None:
    machines = {"engine": "dask", "count": 1}
    subject = subject_of(tmp_path, f"import nonsuch_module\n{MAIN}", machines=machines)
    (machine,) = check_machines(subject, {}, open_engine=lambda _: engine)
    target = about("target", machine.findings)
    assert target.level is Level.BAD
    assert "nonsuch_module" in target.text


def test_different_versions_and_an_invalid_section_are_bad_findings(engine: FolderEngine) -> None:
    other = replace(versions_here(), python="2.7")
    asked = replace(QUESTION, versions=other, section={"workers": "many"})
    (machine,) = examine_machines(engine, asked, most=1)
    versions, section = (about(subject, machine.findings) for subject in ("versions", "configuration"))
    assert (versions.level, section.level) == (Level.BAD, Level.BAD)
    assert "machine gpu1 can't join: Python" in versions.text
    assert "workers" in section.text


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


def examined(
    mask: str | None, library: FakeLibrary | NoDriver, *, mps_runs: bool = False, **variables: str
) -> list[Finding]:
    environment = variables if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    found = examine_devices(environment, library, is_foreign=lambda pid: pid == STRANGER, mps_runs=mps_runs)
    return list(found)


def test_each_device_is_listed_with_its_visibility() -> None:
    findings = examined(f"3,{UUIDS[5]}", FakeLibrary())
    assert about("driver", findings).text == "NVIDIA 570.1, 8 devices"
    assert about("device 3", findings).text == f"Fake 80GB {UUIDS[3]}, 4 of 81920 MB used, visible as 3"
    assert about("device 5", findings).text.endswith(f"visible as {UUIDS[5]}")
    assert about("device 0", findings).text.endswith("not visible here")
    assert {finding.level for finding in findings} == {Level.GOOD}


BARE = FakeLibrary(devices=(replace(DEVICES[2], instances=()),))
MISMATCH = "Driver/library version mismatch"


@pytest.mark.parametrize(
    ("mask", "library", "subject", "level", "words"),
    [
        (None, FakeLibrary(), "device 6", Level.WARNING, f"process {STRANGER} computes on it"),
        ("3", FakeLibrary(), "device 6", Level.GOOD, "not visible here"),
        ("3,9,5", FakeLibrary(), "mask", Level.BAD, "9 is not a device here"),
        (None, FakeLibrary(), "device 2", Level.GOOD, f"MIG is on: {', '.join(INSTANCES)}"),
        (None, BARE, "device 2", Level.BAD, "MIG"),
        (None, FakeLibrary(errors={UUIDS[3]: 2}), "device 3", Level.WARNING, "2"),
        (None, FakeLibrary(errors={UUIDS[3]: 0}), "device 3", Level.GOOD, ""),
        (None, FakeLibrary(usages={UUIDS[3]: None}), "device 3", Level.BAD, ""),
        ("3", NoDriver(MISMATCH, broken=True), "driver", Level.BAD, MISMATCH),
        ("3", NoDriver("none is installed"), "driver", Level.GOOD, ""),
        ("3", NoDriver("none is installed"), "mask", Level.GOOD, "CUDA_VISIBLE_DEVICES=3 shows 3"),
    ],
)
def test_a_device_problem_is_a_bad_finding_or_a_warning(
    mask: str | None, library: FakeLibrary | NoDriver, subject: str, level: Level, words: str
) -> None:
    finding = about(subject, examined(mask, library))
    assert finding.level is level, finding
    assert words in finding.text


def test_another_device_order_is_a_warning() -> None:
    findings = examined(None, FakeLibrary(), CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert Level.WARNING in {finding.level for finding in findings if finding.subject == "mask"}


@pytest.mark.parametrize(("mask", "level"), [("3", Level.WARNING), (UUIDS[3], Level.GOOD)])
def test_devices_under_mps_must_be_named_by_uuid(mask: str, level: Level) -> None:
    assert about("MPS", examined(mask, FakeLibrary(), mps_runs=True)).level is level


def test_the_spawn_start_method_is_a_warning() -> None:
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
    found = examine_places(tmp_path, shared=tmp_path / "shm")
    assert about(str(tmp_path / "shm"), found).level is Level.WARNING


def test_a_directory_on_a_network_is_a_warning(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / nfs4 rw 0 0\n")
    *_, finding = examine_places(tmp_path / "sweeps", mounts=mounts)
    assert (finding.subject, finding.level) == ("directory", Level.WARNING)
    assert "on the network (nfs4)" in finding.text


@pytest.mark.parametrize("name", ["WANDB_AGENT_DISABLE_FLAPPING", "WANDB_RUN_ID", "WANDB_SERVICE", "RANK"])
def test_a_misleading_variable_is_a_warning(name: str) -> None:
    found = about("environment", examine_client({name: "true"}, BackendChoice.LOCAL))
    assert (found.level, found.advice) == (Level.WARNING, f"unset {name}")


def test_wandbs_version_is_shown_and_an_impossible_backend_is_bad(tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    assert about("backend", examine_client(nobody, BackendChoice.WANDB)).level is Level.BAD
    found = [(each.subject, each.level) for each in examine_client(nobody, BackendChoice.LOCAL)]
    assert found == [("wandb", Level.GOOD), ("backend", Level.GOOD)]


@pytest.mark.parametrize(
    ("version", "old"),
    [
        *((version, True) for version in ("0.28.1", "0.9.7")),
        *((version, False) for version in ("0.28.2", "0.31.0", "0.32.0rc1", "1.0")),
    ],
)
def test_an_unsupported_release_of_wandb_is_too_old(version: str, old: bool) -> None:
    assert is_too_old(version) is old


def test_the_oldest_supported_release_matches_pyproject() -> None:
    oldest = ".".join(map(str, OLDEST))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"wandb>={oldest}" in project["dependencies"]
    assert LookedAt.read().releases[0] == oldest


HOST = "127.0.0.1"


def on_the_coordinator(clock: Callable[[], float]) -> list[Finding]:
    """Return the findings on a listening coordinator, with this clock."""
    with servers_to_reach(BackendChoice.LOCAL, {}, HOST) as (head,):
        return list(examine_reach(head, clock=clock))


def test_a_reachable_coordinator_is_good() -> None:
    reach, _ = on_the_coordinator(time.time)
    assert (reach.subject, reach.level) == ("reach", Level.GOOD)
    assert "the coordinator at http://127.0.0.1:" in reach.text


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [
        (0.0, Level.GOOD, "within 2 s of the coordinator"),
        (3600.0, Level.WARNING, "ahead of the coordinator"),
        (-3600.0, Level.WARNING, "behind the coordinator"),
    ],
)
def test_a_wrong_clock_is_a_warning_with_its_direction(ahead_s: float, level: Level, words: str) -> None:
    _, clock = on_the_coordinator(lambda: time.time() + ahead_s)
    assert (clock.subject, clock.level) == ("clock", level)
    assert words in clock.text


def test_an_unreachable_coordinator_is_bad() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    (finding,) = examine_reach(ServerToReach("the coordinator", f"http://{HOST}:{port}"))
    assert (finding.subject, finding.level) == ("reach", Level.BAD)
    assert f"the coordinator at http://{HOST}:{port} can't be reached from here" in finding.text


@pytest.mark.parametrize(
    ("sent", "received", "difference"),
    [(100.5, 100.5, 0.0), (107.5, 107.5, 7.0), (93.5, 93.5, -7.0), (103.5, 113.5, 3.0), (98.5, 108.5, 0.0)],
)
def test_network_latency_is_not_a_clock_difference(sent: float, received: float, difference: float) -> None:
    assert clock_difference(100.0, sent, received) == difference


def test_findings_are_parsed_from_mixed_but_not_from_truncated_output() -> None:
    findings = (good("driver", secrets.token_hex(99)), warning("mask", "ünlike", "see"), bad("x", "no", "go"))
    line = to_line(findings)
    assert from_output(f"a library's word\n{line}\nanother one at its exit") == findings
    assert from_output(line[:-50]) is None
    assert from_output("No module named parallel_hpo") is None


def test_bad_findings_and_warnings_are_kept_if_not_all_fit() -> None:
    first, last = bad("first", "no", "go"), warning("last", "hm", "see")
    many = [good(f"device {number}", secrets.token_hex(50)) for number in range(40)]
    line = to_line([first, *many, last])
    assert len(line) <= MOST_BYTES
    told = from_output(line)
    assert told is not None
    assert (told[0], told[-2]) == (first, last)
    left_out = len(many) - (len(told) - 3)
    assert 0 < left_out < len(many)
    assert told[-1] == good("the rest", f"{left_out} more findings did not fit in the machine's answer")


def test_findings_on_8_devices_fit() -> None:
    text = "NVIDIA H100 80GB HBM3 GPU-b7c1d2e3-{}, 4 of 81559 MB used, visible as {}"
    devices = [good(f"device {n}", text.format(secrets.token_hex(14), n)) for n in range(8)]
    rest = [good(f"subject {n}", f"{secrets.token_hex(8)} is as it should be") for n in range(12)]
    assert from_output(to_line([*devices, *rest])) == (*devices, *rest)
