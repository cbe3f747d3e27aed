from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.checks import HyperbandSettings
from parallel_hpo.server.rules.early_stopping import BandResult, Hyperband, LossHistory, advance

losses = st.lists(st.floats(-10, 10), min_size=1, max_size=30)
RULE = Hyperband(bands=(2, 6), eta=3, strict=False)


@pytest.mark.parametrize(
    ("rule", "bands"),
    [
        ({"min_iter": 3}, (3, 9, 27)),
        ({"min_iter": 2, "eta": 2}, (2, 4, 8)),
        ({"max_iter": 27, "s": 2}, (3, 9)),
        ({"max_iter": 5, "s": 3, "eta": 2}, (1, 2)),
        ({"min_iter": 10**400}, ()),
        ({"min_iter": 3, "max_iter": 27}, (3, 9, 27)),
    ],
)
def test_bands_grow_by_eta(rule: dict[str, Any], bands: tuple[int, ...]) -> None:
    assert Hyperband.of(HyperbandSettings(**rule)).bands[:3] == bands


@pytest.mark.parametrize(
    "rule", [{"min_iter": 1, "eta": 1.0000001}, {"max_iter": 10**9, "s": 10**9, "eta": 1.0001}]
)
def test_there_are_at_most_100_bands(rule: dict[str, Any]) -> None:
    assert len(Hyperband.of(HyperbandSettings(**rule)).bands) <= 100


def test_a_rule_is_not_strict_by_default() -> None:
    assert not Hyperband.of(HyperbandSettings(min_iter=1)).strict
    assert Hyperband.of(HyperbandSettings(min_iter=1, strict=True)).strict


@given(losses, st.integers(0, 30))
def test_the_result_does_not_depend_on_how_losses_are_chunked(values: list[float], cut: int) -> None:
    whole = advance(LossHistory(), values, RULE)
    first = advance(LossHistory(), values[:cut], RULE)
    second = advance(first.history, values[cut:], RULE)
    assert second.history == whole.history
    assert first.reached + second.reached == whole.reached


def test_advance_returns_only_the_results_at_bands() -> None:
    reached = advance(LossHistory(), [5, 4, 6, 3, 2, 7, 1], RULE).reached
    assert reached == (BandResult(2, loss=4, best=4), BandResult(6, loss=7, best=2))


@given(losses)
def test_the_best_run_at_a_band_is_never_stopped(values: list[float]) -> None:
    best = min(values)
    assert not RULE.must_stop(BandResult(2, best, best), values)


@given(losses, st.booleans())
def test_only_runs_within_the_best_1_of_eta_continue(values: list[float], strict: bool) -> None:
    rule = Hyperband(bands=(2,), eta=3, strict=strict)
    threshold = sorted(values)[len(values) // 3]
    go_on = [value for value in values if not rule.must_stop(BandResult(2, value, value), values)]
    assert all(value <= threshold for value in go_on)


def test_a_strict_rule_ignores_better_losses_before_the_band() -> None:
    at = BandResult(band=2, loss=5, best=1)
    assert not Hyperband((2,), 3, strict=False).must_stop(at, [2, 3, 5])
    assert Hyperband((2,), 3, strict=True).must_stop(at, [2, 3, 5])
