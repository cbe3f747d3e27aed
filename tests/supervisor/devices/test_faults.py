from __future__ import annotations

import pytest

from parallel_hpo.config.devices import FaultAction
from parallel_hpo.supervisor.devices.health import FaultRule, find_action

KEEP, RECYCLE, QUARANTINE = FaultAction.KEEP, FaultAction.RECYCLE, FaultAction.QUARANTINE


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
def test_a_reason_tells_a_broken_context_from_a_mistake(reason: str, action: FaultAction) -> None:
    assert find_action(reason) is action


def test_the_users_own_patterns_come_first() -> None:
    own = (FaultRule("cuda out of MEMORY", KEEP), FaultRule("no good", QUARANTINE))
    assert find_action("OutOfMemoryError: CUDA out of memory.", own) is KEEP
    assert find_action("ValueError: no good", own) is QUARANTINE
