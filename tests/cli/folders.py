"""Folders of ended sweeps, and their reports."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_end, record_start

DONE = {"stop_reason": "count reached", "exit_code": 0}


def leave_sweep(
    folder: Path, values: Sequence[float | None], *, first: int = 0, facts: Mapping[str, Any] = DONE
) -> None:
    """Write a sweep, or a share, whose runs took 2 s each; None: a failed run."""
    known = {"path": "team/digits/s", "backend": "local", "metric": "loss", "goal": "minimize"}
    with Ledger(folder / "ledger.db") as ledger:
        ledger.record_facts({**known, "count": len(values), **facts})
        for number, value in enumerate(values, first):
            run = RunId(f"{folder.name}-{number}")
            parameters = {"optim": {"lr": 0.1 * number}, "layers": [number]}
            at = 1000.0 + 2 * number
            record_start(ledger, run, parameters=parameters, at=at)
            outcome = Outcome.FAILED if value is None else Outcome.FINISHED
            record_end(ledger, run, 1, AttemptEnd(outcome=outcome, value=value, duration_s=2.0))


def data_of(file: Path) -> Any:
    """Return the data in a report."""
    script = r'<script type="application/json" id="data">(.*?)</script>'
    found = re.search(script, file.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])
