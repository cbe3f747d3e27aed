from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor.findings import Finding, Level
from parallel_hpo.doctor.machine import examine_devices
from tests.devices.fakes import DEVICES, INSTANCES, STRANGER, UUIDS, FakeLibrary


def examined(
    environment: Mapping[str, str], library: FakeLibrary | NoDriver, *, mps_runs: bool = False
) -> list[Finding]:
    found = examine_devices(environment, library, is_stranger=lambda pid: pid == STRANGER, mps_runs=mps_runs)
    return list(found)


def about(subject: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def test_each_device_is_listed_with_its_visibility() -> None:
    findings = examined({"CUDA_VISIBLE_DEVICES": f"3,{UUIDS[5]}"}, FakeLibrary())
    assert about("driver", findings)[0].text == "NVIDIA 570.1, 8 devices"
    assert about("device 3", findings)[0].text == f"Fake 80GB {UUIDS[3]}, 4 of 81920 MB used, visible as 3"
    assert about("device 5", findings)[0].text.endswith(f"visible as {UUIDS[5]}")
    assert about("device 0", findings)[0].text.endswith("not visible here")
    assert {finding.level for finding in findings} == {Level.GOOD}


def test_a_stranger_on_a_visible_device_is_a_warning() -> None:
    (finding,) = about("device 6", examined({}, FakeLibrary()))
    assert finding.level is Level.WARNING
    assert f"process {STRANGER} computes on it" in finding.text
    assert about("device 6", examined({"CUDA_VISIBLE_DEVICES": "3"}, FakeLibrary()))[0].level is Level.GOOD


def test_an_entry_of_the_mask_that_hides_others_is_bad() -> None:
    (finding,) = about("mask", examined({"CUDA_VISIBLE_DEVICES": "3,9,5"}, FakeLibrary()))
    assert finding.level is Level.BAD
    assert "9 is not a device here" in finding.text


def test_another_order_of_devices_is_a_warning() -> None:
    findings = examined({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, FakeLibrary())
    assert Level.WARNING in {finding.level for finding in about("mask", findings)}


def test_mig_without_instances_is_bad() -> None:
    (_, mig) = about("device 2", examined({}, FakeLibrary()))
    assert mig.text == f"MIG is on: {', '.join(INSTANCES)}"
    bare = replace(DEVICES[2], instances=())
    (_, lack) = about("device 2", examined({}, FakeLibrary(devices=(bare,))))
    assert lack.level is Level.BAD


def test_memory_errors_are_a_warning() -> None:
    findings = about("device 3", examined({}, FakeLibrary(errors={UUIDS[3]: 2, UUIDS[4]: 0})))
    assert [finding.level for finding in findings] == [Level.GOOD, Level.WARNING]


def test_a_device_that_does_not_answer_is_bad() -> None:
    (finding,) = about("device 3", examined({}, FakeLibrary(usages={UUIDS[3]: None})))
    assert finding.level is Level.BAD


@pytest.mark.parametrize(("mask", "level"), [("3", Level.WARNING), (UUIDS[3], Level.GOOD)])
def test_devices_under_mps_must_be_named_by_uuid(mask: str, level: Level) -> None:
    findings = examined({"CUDA_VISIBLE_DEVICES": mask}, FakeLibrary(), mps_runs=True)
    assert about("MPS", findings)[0].level is level


@pytest.mark.parametrize(("broken", "level"), [(False, Level.GOOD), (True, Level.BAD)])
def test_a_broken_driver_is_bad_but_a_missing_one_is_not(broken: bool, level: Level) -> None:
    findings = examined({"CUDA_VISIBLE_DEVICES": "3"}, NoDriver("Driver/library version mismatch", broken))
    assert about("driver", findings)[0].level is level
    assert about("mask", findings)[0].text == "CUDA_VISIBLE_DEVICES=3 shows 3"
