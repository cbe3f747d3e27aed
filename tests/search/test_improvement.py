"""Expected improvement by its definition, and whether the search finds where it is highest."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep_words import Uniform
from parallel_hpo.search.axes import IntervalAxis, LevelAxis
from parallel_hpo.search.columns import columns_of, drawn
from parallel_hpo.search.gaussian import fit
from parallel_hpo.search.gp import log_expected_improvement, most_promising
from parallel_hpo.search.space import Listed, Stepped


def log_improvement(mean: float, deviation: float, lowest: float) -> float:
    return float(log_expected_improvement(np.array([mean]), np.array([deviation]), lowest)[0])


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3))
def test_it_is_the_mean_of_what_lies_below(mean: float, deviation: float, lowest: float) -> None:
    belief = NormalDist(mean, deviation)
    losses = [belief.inv_cdf((part + 0.5) / 4000) for part in range(4000)]
    expected = sum(max(lowest - loss, 0.0) for loss in losses) / 4000
    assert math.exp(log_improvement(mean, deviation, lowest)) == pytest.approx(expected, rel=0.02, abs=2e-3)


@given(st.floats(0, 1e5), st.floats(1e-3, 1e3))
def test_hopeless_points_are_told_apart_by_how_hopeless_they_are(mean: float, further: float) -> None:
    near, far = log_improvement(mean, 1.0, 0.0), log_improvement(mean + further, 1.0, 0.0)
    assert math.isfinite(far)
    assert far <= near
    assert far < near or mean > 9000


def test_the_search_goes_where_low_losses_are_expected_on_axes_of_all_kinds() -> None:
    axes = (
        IntervalAxis(("lr",), Uniform(0.0, 1.0, None), None),
        LevelAxis(("layers",), Stepped(50), ordered=True),
        LevelAxis(("kind",), Listed("abcd"), ordered=False),
    )
    source = np.random.default_rng(0)
    known = drawn(axes, 60, source)
    lr, layers, kind = known.T
    losses = (lr - 0.3) ** 2 * 4 + ((layers - 35) / 50) ** 2 * 4 + np.where(kind == 2, 0.0, 1.0)
    best = most_promising(axes, fit(columns_of(axes, known), losses)[0], known, source)[0]
    assert best == pytest.approx([0.3, 35, 2], abs=6)
    assert best[0] == pytest.approx(0.3, abs=0.1)
    assert best[2] == 2
