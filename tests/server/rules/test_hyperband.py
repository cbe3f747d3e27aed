from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.hyperband import AtBand, Course, Hyperband, advance, must_stop, read_rule

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
    ],
)
def test_bands_grow_by_eta(rule: dict[str, float], bands: tuple[int, ...]) -> None:
    assert read_rule(rule).bands[:3] == bands


@pytest.mark.parametrize(
    "rule", [{"min_iter": 1, "eta": 1.0000001}, {"max_iter": 10**9, "s": 10**9, "eta": 1.0001}]
)
def test_there_are_never_more_than_a_hundred_bands(rule: dict[str, float]) -> None:
    assert len(read_rule(rule).bands) <= 100


def test_strictness_is_off_unless_asked_for() -> None:
    assert not read_rule({"min_iter": 1}).strict
    assert read_rule({"min_iter": 1, "strict": True}).strict


@given(losses, st.integers(0, 30))
def test_a_course_is_the_same_however_its_losses_are_cut_into_chunks(values: list[float], cut: int) -> None:
    whole = advance(Course(), values, RULE.bands)
    first = advance(Course(), values[:cut], RULE.bands)
    second = advance(first.course, values[cut:], RULE.bands)
    assert second.course == whole.course
    assert first.reached + second.reached == whole.reached


@given(losses)
def test_the_best_run_at_a_band_is_never_stopped(values: list[float]) -> None:
    best = min(values)
    assert not must_stop(RULE, AtBand(2, best, best), values)


@given(losses, st.booleans())
def test_no_more_than_the_best_1_of_eta_and_their_equals_go_on(values: list[float], strict: bool) -> None:
    rule = Hyperband(bands=(2,), eta=3, strict=strict)
    threshold = sorted(values)[len(values) // 3]
    go_on = [value for value in values if not must_stop(rule, AtBand(2, value, value), values)]
    assert all(value <= threshold for value in go_on)


def test_a_strict_rule_forgets_what_was_better_before_the_band() -> None:
    at = AtBand(band=2, loss=5, best=1)
    assert not must_stop(Hyperband((2,), 3, strict=False), at, [2, 3, 5])
    assert must_stop(Hyperband((2,), 3, strict=True), at, [2, 3, 5])
