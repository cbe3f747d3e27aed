"""A sweep on machines whose cables are pulled: what `scripts/chaos --machines` does at length, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.namespaces import why_no_network
from tests.processes.fleet_under_fire import torment_machines


@pytest.mark.timeout(300)
def test_kills_and_cuts_on_two_machines_leave_the_count_exact_and_no_two_attempts_at_once(
    tmp_path: Path,
) -> None:
    reason = why_no_network()
    if reason is not None:
        pytest.skip(reason)
    assert torment_machines(tmp_path, machines=2, runs=10, seed=5, pace=0.3, most=20) == []
