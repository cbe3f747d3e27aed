"""What a failed run's reason says about its worker and its device: a small table of patterns, pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from parallel_hpo.config.devices import FaultAction


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A reason in which `pattern` (a regular expression, upper or lower case) is found asks for `action`."""

    pattern: str
    action: FaultAction


OUT_OF_MEMORY: Final = (
    FaultRule(r"(CUDA|HIP|CUBLAS|CUDNN).*(out.of.memory|ALLOC_FAILED)", FaultAction.RECYCLE),
    FaultRule(r"OutOfMemoryError", FaultAction.RECYCLE),
    FaultRule(r"RESOURCE_EXHAUSTED", FaultAction.RECYCLE),
)
"""A device's memory was too little: as the CUDA driver and torch say it, CuPy, and XLA and TensorFlow."""
BUILT_IN: Final = (
    FaultRule(r"uncorrectable ECC", FaultAction.QUARANTINE),
    *OUT_OF_MEMORY,
    FaultRule(r"device-side assert|illegal memory access|unspecified launch failure", FaultAction.RECYCLE),
)
"""After each of these a process is of no more use: its context is broken for good, or its
memory is held by what the failed run left behind."""


def find_action(reason: str, own: Iterable[FaultRule] = ()) -> FaultAction:
    """Return what the first rule that fits asks for; the user's `own` are tried first."""
    for rule in (*own, *BUILT_IN):
        if re.search(rule.pattern, reason, re.IGNORECASE):
            return rule.action
    return FaultAction.KEEP


def is_out_of_memory(reason: str) -> bool:
    """Whether a run failed as its device had too little memory."""
    return any(re.search(rule.pattern, reason, re.IGNORECASE) for rule in OUT_OF_MEMORY)
