from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.tables import FaultAction
from parallel_hpo.core.types import Outcome
from parallel_hpo.devices.health import (
    FAILURES_IN_A_ROW,
    QUARANTINE_MAX_S,
    QUARANTINE_S,
    FaultRule,
    Health,
    find_action,
    note_run,
)

A, B = "3", "5"
FINISHED, FAILED, CRASHED, STOPPED = Outcome.FINISHED, Outcome.FAILED, Outcome.CRASHED, Outcome.STOPPED

KEEP, RECYCLE, QUARANTINE = FaultAction.KEEP, FaultAction.RECYCLE, FaultAction.QUARANTINE


def after(*runs: tuple[str, Outcome], now: float = 0.0, health: Health | None = None) -> Health:
    """Return the health of devices A and B after these runs."""
    health = health or Health()
    for device, outcome in runs:
        health = note_run(health, device, outcome, others=frozenset({A, B} - {device}), now=now)
    return health


def test_a_device_on_which_runs_keep_failing_is_quarantined() -> None:
    health = after(*[(B, FINISHED), (A, FAILED)] * FAILURES_IN_A_ROW)
    assert health.is_quarantined(A, QUARANTINE_S - 1)
    assert not health.is_quarantined(B, 0.0)


def test_deaths_count_as_failures() -> None:
    assert after(*[(A, CRASHED)] * FAILURES_IN_A_ROW).is_quarantined(A, 0.0)


def test_a_finished_run_resets_the_failures() -> None:
    health = after((A, FAILED), (A, FAILED), (A, FINISHED), (A, FAILED), (A, FAILED))
    assert not health.is_quarantined(A, 0.0)


def test_stopped_runs_are_ignored() -> None:
    assert not after(*[(A, STOPPED)] * 10).is_quarantined(A, 0.0)


def test_no_device_is_quarantined_if_runs_fail_everywhere() -> None:
    health = after(*[(A, FAILED), (B, FAILED)] * 10)
    assert not health.is_quarantined(A, 0.0)
    assert not health.is_quarantined(B, 0.0)


def test_a_sole_device_is_never_quarantined() -> None:
    health = Health()
    for _ in range(10):
        health = note_run(health, A, FAILED, others=frozenset(), now=0.0, faulty=True)
    assert not health.is_quarantined(A, 0.0)


def test_a_device_fault_quarantines_at_once() -> None:
    health = note_run(Health(), A, FAILED, others=frozenset({B}), now=0.0, faulty=True)
    assert health.is_quarantined(A, 0.0)


def test_the_last_device_in_use_is_never_quarantined() -> None:
    health = note_run(Health(), A, FAILED, others=frozenset({B}), now=0.0, faulty=True)
    health = note_run(health, B, FAILED, others=frozenset({A}), now=1.0, faulty=True)
    assert not health.is_quarantined(B, 1.0)


HELD = after(*[(A, FAILED)] * FAILURES_IN_A_ROW)


def test_after_its_quarantine_a_device_is_on_probation() -> None:
    assert not HELD.is_on_probation(A, QUARANTINE_S - 1)
    assert HELD.is_on_probation(A, QUARANTINE_S)
    assert not HELD.is_quarantined(A, QUARANTINE_S)


def test_a_good_probation_run_ends_the_quarantine() -> None:
    health = after((A, FINISHED), now=QUARANTINE_S, health=HELD)
    assert not health.is_on_probation(A, QUARANTINE_S)
    assert health.of(A).quarantines == 0


def test_a_bad_probation_run_doubles_the_quarantine() -> None:
    health = after((A, FAILED), now=QUARANTINE_S, health=HELD)
    assert health.is_quarantined(A, QUARANTINE_S + 2 * QUARANTINE_S - 1)
    assert health.is_on_probation(A, QUARANTINE_S + 2 * QUARANTINE_S)


def test_a_stopped_probation_run_is_repeated() -> None:
    assert after((A, STOPPED), now=QUARANTINE_S, health=HELD).is_on_probation(A, QUARANTINE_S)


RUNS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Outcome), st.floats(0, 2000)), max_size=60)


@given(RUNS)
def test_some_device_is_always_in_use_and_every_quarantine_ends(
    runs: list[tuple[str, Outcome, float]],
) -> None:
    health, now = Health(), 0.0
    for device, outcome, later in runs:
        now += later
        health = note_run(health, device, outcome, others=frozenset("abc") - {device}, now=now)
        assert not all(health.is_quarantined(each, now) for each in "abc")
        for each in "abc":
            assert (health.of(each).held_until or 0.0) <= now + QUARANTINE_MAX_S


@pytest.mark.parametrize(
    ("reason", "action"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB (GPU 0; …)", RECYCLE),
        ("OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB", RECYCLE),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", RECYCLE),
        (
            "ResourceExhaustedError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes",
            RECYCLE,
        ),
        ("RuntimeError: CUDA error: device-side assert triggered", RECYCLE),
        ("AcceleratorError: CUDA error: an illegal memory access was encountered", RECYCLE),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", QUARANTINE),
        ("ValueError: no good", KEEP),
        ("MemoryError", KEEP),
        ("", KEEP),
    ],
)
def test_a_broken_context_is_recognized_by_the_reason(reason: str, action: FaultAction) -> None:
    assert find_action(reason) is action


def test_the_users_own_patterns_come_first() -> None:
    own = (FaultRule("cuda out of MEMORY", KEEP), FaultRule("no good", QUARANTINE))
    assert find_action("OutOfMemoryError: CUDA out of memory.", own) is KEEP
    assert find_action("ValueError: no good", own) is QUARANTINE
