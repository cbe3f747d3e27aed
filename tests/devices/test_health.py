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
MANY = FAILURES_IN_A_ROW


def after(*runs: tuple[str, Outcome], now: float = 0.0, health: Health | None = None) -> Health:
    """Return the health of devices A and B after these runs."""
    health = health or Health()
    for device, outcome in runs:
        health = note_run(health, device, outcome, others=frozenset({A, B} - {device}), now=now)
    return health


@pytest.mark.parametrize(
    ("runs", "is_quarantined"),
    [
        ([(B, FINISHED), (A, FAILED)] * MANY, True),
        ([(A, CRASHED)] * MANY, True),
        ([*[(A, FAILED)] * (MANY - 1), (A, FINISHED), *[(A, FAILED)] * (MANY - 1)], False),
        ([(A, STOPPED)] * 10, False),
        ([(A, FAILED), (B, FAILED)] * 10, False),
    ],
)
def test_a_device_on_which_runs_keep_failing_is_quarantined_unless_they_fail_everywhere(
    runs: list[tuple[str, Outcome]], is_quarantined: bool
) -> None:
    health = after(*runs)
    assert health.is_quarantined(A, QUARANTINE_S - 1) is is_quarantined
    assert not health.is_quarantined(B, 0.0)


def test_a_fault_of_a_device_quarantines_at_once_but_never_the_last_in_use() -> None:
    health = note_run(Health(), A, FAILED, others=frozenset({B}), now=0.0, faulty=True)
    assert health.is_quarantined(A, 0.0)
    health = note_run(health, B, FAILED, others=frozenset({A}), now=1.0, faulty=True)
    assert not health.is_quarantined(B, 1.0)
    sole = note_run(Health(), A, FAILED, others=frozenset(), now=0.0, faulty=True)
    assert not sole.is_quarantined(A, 0.0)


def test_after_its_quarantine_a_device_is_on_probation() -> None:
    held = after(*[(A, FAILED)] * MANY)
    assert not held.is_on_probation(A, QUARANTINE_S - 1)
    assert held.is_on_probation(A, QUARANTINE_S)
    good = after((A, FINISHED), now=QUARANTINE_S, health=held)
    assert (good.is_on_probation(A, QUARANTINE_S), good.of(A).quarantines) == (False, 0)
    bad = after((A, FAILED), now=QUARANTINE_S, health=held)
    assert bad.is_quarantined(A, QUARANTINE_S + 2 * QUARANTINE_S - 1)
    assert bad.is_on_probation(A, QUARANTINE_S + 2 * QUARANTINE_S)
    stopped = after((A, STOPPED), now=QUARANTINE_S, health=held)
    assert stopped.is_on_probation(A, QUARANTINE_S)


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
        ("ResourceExhaustedError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 b", RECYCLE),
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
