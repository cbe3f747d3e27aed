"""The doctor's checks of this machine, of its client, and of a coordinator; and the transfer of findings."""

from __future__ import annotations

import resource
import secrets
import socket
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parallel_hpo.config.section import BackendChoice, StartMethod
from parallel_hpo.devices.library import NoDriver
from parallel_hpo.doctor.client import (
    OLDEST,
    clock_difference,
    examine_client,
    examine_reach,
    is_too_old,
    servers_to_reach,
)
from parallel_hpo.doctor.findings import (
    MOST_BYTES,
    Finding,
    Level,
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
from scripts.client_operations import LookedAt
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
    found = list(examine_places(tmp_path, shared=tmp_path / "shm"))
    assert about(str(tmp_path / "shm"), found).level is Level.WARNING


def test_a_directory_on_a_network_is_a_warning(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / nfs4 rw 0 0\n")
    *_, finding = examine_places(tmp_path / "sweeps", mounts=mounts)
    assert (finding.subject, finding.level) == ("directory", Level.WARNING)
    assert "on the network (nfs4)" in finding.text


ROOT = Path(__file__).parents[2]


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.subject: finding.level for finding in findings}


@pytest.mark.parametrize("name", ["WANDB_AGENT_DISABLE_FLAPPING", "WANDB_RUN_ID", "WANDB_SERVICE", "RANK"])
def test_a_misleading_variable_is_a_warning(name: str) -> None:
    findings = list(examine_client({name: "true"}, BackendChoice.LOCAL))
    (found,) = [finding for finding in findings if finding.subject == "environment"]
    assert found.level is Level.WARNING
    assert found.advice == f"unset {name}"


def test_wandbs_version_is_shown_and_an_impossible_backend_is_bad(tmp_path: Path) -> None:
    nobody = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    assert levels(list(examine_client(nobody, BackendChoice.WANDB)))["backend"] is Level.BAD
    assert levels(list(examine_client(nobody, BackendChoice.LOCAL))) == {
        "wandb": Level.GOOD,
        "backend": Level.GOOD,
    }


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


def test_the_oldest_supported_release_matches_pyproject() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"wandb>={'.'.join(map(str, OLDEST))}" in asked
    assert LookedAt.read().releases[0] == ".".join(map(str, OLDEST))


HOST = "127.0.0.1"


def on_the_coordinator(clock: Callable[[], float]) -> list[Finding]:
    """Return the findings on a listening coordinator, with this clock."""
    with servers_to_reach(BackendChoice.LOCAL, {}, HOST) as (head,):
        return list(examine_reach(head, clock=clock))


def test_a_reachable_coordinator_and_an_equal_clock_are_good() -> None:
    reach, clock = on_the_coordinator(time.time)
    assert (reach.subject, reach.level) == ("reach", Level.GOOD)
    assert "the coordinator at http://127.0.0.1:" in reach.text
    assert (clock.subject, clock.level, clock.text) == ("clock", Level.GOOD, "within 2 s of the coordinator")


@pytest.mark.parametrize(
    ("ahead_s", "way"), [(3600.0, "ahead of the coordinator"), (-3600.0, "behind the coordinator")]
)
def test_a_wrong_clock_is_a_warning_with_its_direction(ahead_s: float, way: str) -> None:
    _, clock = on_the_coordinator(lambda: time.time() + ahead_s)
    assert clock.level is Level.WARNING
    assert way in clock.text


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


def test_findings_are_parsed_from_mixed_output() -> None:
    findings = (good("driver", "2 devices"), warning("mask", "ünlike", "see"), bad("reach", "no", "go"))
    output = f"a library's word\n{to_line(findings)}\nanother one at its exit"
    assert from_output(output) == findings


def test_truncated_output_has_no_findings() -> None:
    line = to_line([good("driver", secrets.token_hex(100))])
    assert from_output(line[:-50]) is None
    assert from_output("No module named parallel_hpo") is None


def test_bad_findings_and_warnings_are_kept_if_not_all_fit() -> None:
    first, last = bad("first", "no", "go"), warning("last", "hm", "see")
    many = [good(f"device {number}", secrets.token_hex(50)) for number in range(40)]
    line = to_line([first, *many, last])
    told = from_output(line)
    assert len(line) <= MOST_BYTES
    assert told is not None
    assert (told[0], told[-2]) == (first, last)
    kept = len(told) - 3
    assert 0 < kept < len(many)
    assert told[-1] == Finding(
        Level.GOOD, "the rest", f"{len(many) - kept} more findings did not fit in the machine's answer"
    )


def test_findings_on_8_devices_fit() -> None:
    uuid = "GPU-b7c1d2e3-{}"
    devices = [
        good(
            f"device {n}",
            f"NVIDIA H100 80GB HBM3 {uuid.format(secrets.token_hex(14))}, 4 of 81559 MB used, visible as {n}",
        )
        for n in range(8)
    ]
    rest = [good(f"subject {n}", f"{secrets.token_hex(8)} is as it should be") for n in range(12)]
    assert from_output(to_line([*devices, *rest])) == (*devices, *rest)
