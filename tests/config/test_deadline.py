"""Deadlines: allowed values and their moments."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from parallel_hpo.config.section import HpoSection, parse_section
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.values import deadline_at

SWEEP: dict[str, Any] = {"method": "grid", "parameters": {"x": {"values": [1]}}}
BEGAN = 1_800_000_000.0


def section(**keys: Any) -> HpoSection:
    return parse_section({"sweep_configuration": SWEEP, **keys}, origin=lambda key: "here")


def moment(deadline: Any) -> float:
    text = section(deadline=deadline).deadline
    assert text is not None
    return deadline_at(text, BEGAN)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        *((90, 90), (0.5, 0.5), ("90", 90), ("22s", 22), ("3h30m", 12600), ("1d 2h", 93600), ("1.5H", 5400)),
        *(("2m5s", 125), ("1w1d", 691200)),
        *((1e-05, 1e-05), (1e16, 1e16), ("10000000000000000", 1e16), (1e300, 1e300)),
    ],
)
def test_a_duration_counts_from_the_beginning(duration: Any, seconds: float) -> None:
    assert moment(duration) == BEGAN + seconds


def test_a_time_of_day_does_not_depend_on_the_start() -> None:
    there = datetime(2026, 12, 24, 18, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment("2026-12-24T18:30+02:00") == moment(there) == there.timestamp()
    assert moment("2026-12-24T16:30Z") == datetime(2026, 12, 24, 16, 30, tzinfo=UTC).timestamp()


def test_a_time_without_a_zone_is_local() -> None:
    written = "2026-12-24 18:30"
    for local in (written, datetime.fromisoformat(written)):
        text = section(deadline=local).deadline
        assert text is not None
        assert datetime.fromisoformat(text).utcoffset() is not None
        assert deadline_at(text, 0) == datetime.fromisoformat(written).timestamp()


@pytest.mark.parametrize("deadline", [90, 1e-05, 1e16, "3h30m", "2026-12-24 18:30"])
def test_a_deadline_means_the_same_on_all_machines(deadline: Any) -> None:
    told = json.loads(section(deadline=deadline).model_dump_json())["deadline"]
    assert section(deadline=told).deadline == told
    assert moment(told) == moment(deadline)


@pytest.mark.parametrize(
    "nonsense",
    [
        *("soon", "", "3x", "h", "0s", "-5s", "18:30", "2026-12-24", "2026-13-24 18:30"),
        *(0, -1, True, float("inf"), 10**400, "9" * 400, "9" * 400 + "d", [1], {}, date(2026, 12, 24)),
    ],
)
def test_an_invalid_deadline_is_refused(nonsense: Any) -> None:
    with pytest.raises(ConfigError, match=r"hpo\.deadline is .*allowed: .*3h30m.*with its date"):
        section(deadline=nonsense)


def test_a_seed_is_a_63_bit_integer() -> None:
    assert section(seed=0).seed == 0
    for wrong in (-1, 2**63, 1.5, True, "x"):
        with pytest.raises(ConfigError, match=r"hpo\.seed is"):
            section(seed=wrong)


def test_a_seed_parameter_needs_a_seed_and_a_new_name() -> None:
    assert section(seed=1, seed_parameter="seed").seed_parameter == "seed"
    with pytest.raises(ConfigError, match="seed is missing"):
        section(seed_parameter="seed")
    with pytest.raises(ConfigError, match="one of the sweep's own parameters"):
        section(seed=1, seed_parameter="x")


def test_the_servers_seed_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="parallel_hpo_seed"):
        parse_section({"sweep_configuration": {**SWEEP, "parallel_hpo_seed": 1}}, origin=lambda key: "here")
