"""The choice by likelihood between one surface and parts, and between shapes of the losses."""

from __future__ import annotations

import numpy as np
import pytest

from parallel_hpo.server.search.gaussian import Choice, Column, Surface, Table
from parallel_hpo.server.search.gp import PartedSurface, bell_shaped, cut_off, likeliest

MODEL = Choice(first=0, size=2)


def grid(count: int) -> Table:
    return np.linspace(0, 1, count)[:, np.newaxis]


def wave(columns: Table) -> Column:
    heights: Column = np.sin(6 * columns[:, 0])
    return heights


def models(count: int) -> Table:
    """A model's kind, a parameter of the one kind, and a parameter of the other."""
    source = np.random.default_rng(0)
    return np.column_stack([np.arange(count) % 2, source.random((count, 2))])


def of_its_own(columns: Table) -> Column:
    losses: Column = np.where(columns[:, 0] > 0, np.sin(6 * columns[:, 1]), np.cos(9 * columns[:, 2]))
    return losses


def shared(columns: Table) -> Column:
    losses: Column = np.sin(6 * columns[:, 1]) + 0.5 * columns[:, 0]
    return losses


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


def test_where_a_choice_decides_what_matters_each_level_has_a_part() -> None:
    belief = likeliest(models(40), of_its_own(models(40)), (MODEL,))
    assert isinstance(belief, PartedSurface)
    net = np.array([[1.0, 0.3, 0.1], [1.0, 0.3, 0.9]])
    one, other = belief.mean(net)
    assert one == pytest.approx(other, abs=0.05)  # the other kind's parameter does nothing here


def test_where_a_choice_only_adds_to_the_loss_its_levels_learn_from_each_other() -> None:
    assert isinstance(likeliest(models(40), shared(models(40)), (MODEL,)), Surface)


def test_a_level_without_results_is_no_part() -> None:
    columns = models(40)
    columns[1:, 0] = 0
    assert isinstance(likeliest(columns, of_its_own(columns), (MODEL,)), Surface)


def test_a_part_that_is_told_more_leaves_the_others_as_they_are() -> None:
    belief = likeliest(models(40), of_its_own(models(40)), (MODEL,))
    there, elsewhere = np.array([[1.0, 0.5, 0.5]]), np.array([[0.0, 0.5, 0.5]])
    later = belief.with_points(there, belief.mean(there) + 1)
    assert later.mean(there)[0] > belief.mean(there)[0] + 0.5
    assert later.mean(elsewhere) == pytest.approx(belief.mean(elsewhere))
    assert len(later.losses) == 41
