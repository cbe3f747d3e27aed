"""The Gaussian process: what it believes between and beyond the points that it was told."""

from __future__ import annotations

import numpy as np
import pytest

from parallel_hpo.search.columns import Column, Table
from parallel_hpo.search.gaussian import fitted, likeliest
from parallel_hpo.search.shapes import bell_shaped, cut_off


def grid(count: int) -> Table:
    return np.linspace(0, 1, count)[:, np.newaxis]


def wave(columns: Table) -> Column:
    heights: Column = np.sin(6 * columns[:, 0])
    return heights


def test_what_lies_between_smooth_results_is_foretold() -> None:
    surface = fitted(grid(12), wave(grid(12)))
    assert surface.mean(grid(50)) == pytest.approx(wave(grid(50)), abs=0.02)


def test_near_results_it_is_surer_than_far_from_them() -> None:
    surface = fitted(grid(12) / 2, wave(grid(12) / 2))
    _, (near, far) = surface.mean_and_deviation(np.array([[0.25], [0.9]]))
    assert near < 0.02 < far


def test_a_result_told_later_counts() -> None:
    surface = fitted(grid(5) / 2, wave(grid(5) / 2))
    there = np.array([[1.0]])
    later = surface.told(there, np.array([2.0]))
    assert later.mean(there)[0] == pytest.approx(2.0, abs=0.05)
    assert later.mean_and_deviation(there)[1][0] < surface.mean_and_deviation(there)[1][0]


def test_noise_is_not_taken_for_shape() -> None:
    source = np.random.default_rng(0)
    columns = source.random((60, 1))
    losses = wave(columns) + source.normal(0, 0.4, 60)
    assert fitted(columns, losses).mean(grid(50)) == pytest.approx(wave(grid(50)), abs=0.4)


def test_a_column_without_effect_is_not_looked_at() -> None:
    columns = np.random.default_rng(0).random((40, 2))
    surface = fitted(columns, wave(columns))
    ends = surface.mean(np.array([[0.3, 0.0], [0.3, 1.0]]))
    assert ends[0] == pytest.approx(ends[1], abs=0.05)


def test_losses_that_are_all_equal_have_no_shape() -> None:
    surface = likeliest(grid(10), np.full(10, 3.0))
    assert surface.mean(grid(4)) == pytest.approx(np.zeros(4), abs=1e-6)


def test_losses_without_noise_are_taken_in_the_shape_of_a_bell() -> None:
    losses = np.exp(2 * wave(grid(20)))
    shaped = likeliest(grid(20), losses).losses
    assert shaped == pytest.approx(bell_shaped(cut_off(losses)).losses)
    assert shaped != pytest.approx(cut_off(losses), abs=0.05)


def test_noise_among_low_losses_is_not_stretched() -> None:
    columns = np.random.default_rng(0).random((60, 1))
    losses = 60 * (columns[:, 0] - 0.5) ** 2 + np.random.default_rng(1).normal(0, 2, 60)
    surface = likeliest(columns, losses)
    assert surface.losses == pytest.approx(cut_off(losses))
    assert grid(101)[surface.mean(grid(101)).argmin(), 0] == pytest.approx(0.5, abs=0.05)


def test_noise_is_part_of_what_will_be_seen() -> None:
    source = np.random.default_rng(0)
    columns = source.random((60, 1))
    surface = fitted(columns, wave(columns) + source.normal(0, 0.4, 60))
    assert surface.mean_and_deviation(columns)[1] == pytest.approx(0.4, abs=0.15)
