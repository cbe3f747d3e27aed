"""The doctor's checks of wandb's client, and of a server's address and clock."""

from __future__ import annotations

import socket
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from parallel_hpo.config.section import BackendChoice
from parallel_hpo.doctor import Finding, Level
from parallel_hpo.doctor.client import (
    OLDEST,
    clock_difference,
    examine_client,
    examine_reach,
    is_too_old,
    servers_to_reach,
)
from parallel_hpo.doctor.findings import ServerToReach
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


def test_the_oldest_release_is_that_of_pyproject() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"wandb>={'.'.join(map(str, OLDEST))}" in asked
    assert LookedAt.read().releases[0] == ".".join(map(str, OLDEST))


HOST = "127.0.0.1"


def on_the_head(clock: Callable[[], float]) -> list[Finding]:
    """Return the findings on a listening coordinator, with this clock."""
    with servers_to_reach(BackendChoice.LOCAL, {}, HOST) as (head,):
        return list(examine_reach(head, clock=clock))


def test_a_listening_coordinator_is_reached_and_clocks_agree() -> None:
    reach, clock = on_the_head(time.time)
    assert (reach.subject, reach.level) == ("reach", Level.GOOD)
    assert "the coordinator at http://127.0.0.1:" in reach.text
    assert (clock.subject, clock.level, clock.text) == ("clock", Level.GOOD, "within 2 s of the coordinator")


@pytest.mark.parametrize(
    ("ahead_s", "way"), [(3600.0, "ahead of the coordinator"), (-3600.0, "behind the coordinator")]
)
def test_a_wrong_clock_is_a_warning_with_the_direction(ahead_s: float, way: str) -> None:
    _, clock = on_the_head(lambda: time.time() + ahead_s)
    assert clock.level is Level.WARNING
    assert way in clock.text


def test_a_port_where_nobody_listens_is_bad() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    (finding,) = examine_reach(ServerToReach("the coordinator", f"http://{HOST}:{port}"))
    assert (finding.subject, finding.level) == ("reach", Level.BAD)
    assert f"the coordinator at http://{HOST}:{port} can't be reached from here" in finding.text


@pytest.mark.parametrize(
    ("sent", "received", "difference"),
    [(100.5, 100.5, 0.0), (107.5, 107.5, 7.0), (93.5, 93.5, -7.0), (103.5, 113.5, 3.0), (98.5, 108.5, 0.0)],
)
def test_travel_time_is_no_clock_difference(sent: float, received: float, difference: float) -> None:
    assert clock_difference(100.0, sent, received) == difference
