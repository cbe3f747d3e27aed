"""Each run's own seed: pure.

A server of ours says which place in its sweep a run has. W&B's says none: there what tells runs apart
is their parameters, and of those with the same ones which of them it is.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Final

from parallel_hpo.words import Parameters

SEEDS: Final = 2**31
"""What every library takes for a seed: some know no larger number, some no negative one."""
_STEP: Final = 0x9E3779B1
"""Odd, so that no two of 2**31 places come to the same seed; large, so that neighbours are far apart."""


def seed_of(sweep_seed: int, place: int) -> int:
    """Return the seed of the run at a place of a sweep, a whole number from 0 and below 2**31."""
    return (_number(f"{sweep_seed}") + place * _STEP) % SEEDS


def place_by(parameters: Parameters, before: int) -> int:
    """Return a place for a run with these parameters, of which `before` others have begun."""
    return _number(f"{before}/{json.dumps(parameters, sort_keys=True)}")


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])
