"""Sweeps with a seed and a deadline: what is made again is the same, and fits the time."""

from __future__ import annotations

from typing import Any

from tests.processes.conftest import Entry, RealSweep, outcomes
from tests.processes.test_resuming import resume

SEEDED: dict[str, Any] = {"count": 6, "seed": 7, "seed_parameter": "seed"}
Drawn = dict[float, tuple[int, float]]


def drawn(entries: list[Entry]) -> Drawn:
    """Return the seed of each run and the first number that it drew, by its x; the same in each attempt."""
    found: Drawn = {}
    for entry in entries:
        facts = entry.facts["seed"], entry.facts["drawn"]
        assert found.setdefault(entry.facts["parameters"]["x"], facts) == facts
        assert entry.facts["parameters"]["seed"] == entry.facts["seed"], "it is in wandb.config too"
    return found


def test_a_sweep_that_ends_in_time_and_is_resumed_repeats_one_of_the_same_seed(sweep: RealSweep) -> None:
    """One on two workers, some of which die; then one on a worker that has time for a part of it."""
    ended = sweep.start("seeded", **SEEDED).finish()
    first = sweep.entries()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 6)
    assert len(first) > 6, "none has died"
    assert len(drawn(first)) == 6
    (ledger,) = sweep.directory.glob("*/ledger.db")
    ledger.parent.rename(sweep.folder / "the first one")

    sweep.env["EACH_S"] = "1.5"
    ended = sweep.start("seeded", workers=1, deadline="5s", **SEEDED).finish()
    assert ended.code == 124, ended.stderr
    assert ended.summary["stop_reason"].startswith("deadline 5s")
    assert ended.summary["attempted"] < 6

    sweep.env["EACH_S"] = "0"
    ended = resume(sweep, "seeded", count=6, seed=8).finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 6)
    assert "hpo.seed is 8, but the sweep began with seed 7 and keeps it" in ended.stderr
    assert drawn(sweep.entries()[len(first) :]) == drawn(first)
