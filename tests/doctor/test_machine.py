"""The doctor's checks of this machine: its devices, places and limits."""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parallel_hpo.config.section import StartMethod
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor.findings import Finding, Level
from parallel_hpo.doctor.machine import (
    examine_descriptors,
    examine_devices,
    examine_places,
    examine_start_method,
)
from tests.devices.fakes import DEVICES, INSTANCES, STRANGER, UUIDS, FakeLibrary


def examined(
    mask: str | None, library: FakeLibrary | NoDriver, *, mps_runs: bool = False, **variables: str
) -> list[Finding]:
    environment = variables if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    found = examine_devices(environment, library, is_foreign=lambda pid: pid == STRANGER, mps_runs=mps_runs)
    return list(found)


def about(subject: str, findings: list[Finding]) -> Finding:
    """Return the last finding on a subject."""
    return [finding for finding in findings if finding.subject == subject][-1]


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
def test_what_is_wrong_with_a_device_is_bad_or_a_warning(
    mask: str | None, library: FakeLibrary | NoDriver, subject: str, level: Level, words: str
) -> None:
    finding = about(subject, examined(mask, library))
    assert finding.level is level, finding
    assert words in finding.text


def test_another_order_of_devices_is_a_warning() -> None:
    findings = examined(None, FakeLibrary(), CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert Level.WARNING in {finding.level for finding in findings if finding.subject == "mask"}


@pytest.mark.parametrize(("mask", "level"), [("3", Level.WARNING), (UUIDS[3], Level.GOOD)])
def test_devices_under_mps_must_be_named_by_uuid(mask: str, level: Level) -> None:
    assert about("MPS", examined(mask, FakeLibrary(), mps_runs=True)).level is level


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
    found = list(examine_places(tmp_path, shared=tmp_path / "shm"))
    assert about(str(tmp_path / "shm"), found).level is Level.WARNING


def test_a_directory_on_a_network_is_a_warning(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / nfs4 rw 0 0\n")
    *_, finding = examine_places(tmp_path / "sweeps", mounts=mounts)
    assert (finding.subject, finding.level) == ("directory", Level.WARNING)
    assert "on the network (nfs4)" in finding.text
