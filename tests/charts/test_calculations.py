"""What charts calculate, tried in the browser that does it."""

from __future__ import annotations

import csv
import io
import random
import statistics
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.chromium import looking

CALL: Final = "async ([file, name, given]) => (await import(`/static/charts/${file}.js`))[name](...given)"
DICE: Final = random.Random(3)


@pytest.fixture(scope="module")
def page(window: BrowserContext, site: str) -> Iterator[Page]:
    """A page from which modules can be imported."""
    with looking(window) as sight:
        sight.page.goto(site)
        yield sight.page


def call(page: Page, file: str, name: str, *given: Any) -> Any:
    """Call a function of one of the charts' modules."""
    return page.evaluate(CALL, [file, name, list(given)])


def ranks(values: list[Any]) -> list[float]:
    """Return each value's rank from below; equal ones have the mean of theirs."""
    return [sum(other < value for other in values) + values.count(value) / 2 for value in values]


def test_the_correlation_is_spearmans_even_with_ties(page: Page) -> None:
    given = [DICE.randint(1, 8) for _ in range(80)]
    got = [value + DICE.random() * 5 for value in given]
    found = call(page, "importance", "effect", given, got)
    assert found["correlation"] == pytest.approx(statistics.correlation(ranks(given), ranks(got)))
    assert found["runs"] == 80


def test_a_decisive_parameter_is_important_and_noise_is_not(page: Page) -> None:
    bend = [number / 100 - 1 for number in range(201)]
    found = call(page, "importance", "effect", bend, [value * value for value in bend])
    assert abs(found["correlation"]) < 0.05
    assert found["importance"] > 0.9
    names = ["sgd", "adam", "rmsprop"] * 20
    got = [{"sgd": 3.0, "adam": 1.0, "rmsprop": 2.0}[name] + DICE.random() * 0.5 for name in names]
    found = call(page, "importance", "effect", names, got)
    assert found["correlation"] is None
    assert found["importance"] > 0.8
    for _ in range(5):
        given, got = ([DICE.random() for _ in range(120)] for _ in range(2))
        assert call(page, "importance", "effect", given, got)["importance"] < 0.15


def test_runs_without_the_parameter_or_a_value_are_left_out(page: Page) -> None:
    found = call(page, "importance", "effect", [1, None, 3, 4, 5, 6, 7, 8], [1, 2, None, 4, 5, 6, 7, 8])
    assert found["runs"] == 6
    assert call(page, "importance", "effect", [1, 2, 3], [1, 2, 3])["importance"] is None


def test_smoothing_keeps_gaps_and_constant_values_and_is_off_at_zero(page: Page) -> None:
    xs, ys = list(range(6)), [2.0, 2.0, None, 2.0, 2.0, 2.0]
    assert call(page, "course", "smoothed", xs, ys, 0.9) == pytest.approx(ys)
    spiky = [0.0, 0.0, 9.0, 0.0]
    assert call(page, "course", "smoothed", [0, 1, 2, 3], spiky, 0) == spiky
    dense = list(range(1001))
    smooth = call(page, "course", "smoothed", dense, [float(x == 500) for x in dense], 0.9)
    assert 0.05 < max(smooth) < 0.2


def test_values_are_placed_on_axes_of_each_kind(page: Page) -> None:
    places = page.evaluate("""async () => {
        const { axisOf } = await import("/static/charts/axes.js");
        const of = (parameter, column) => column.map(axisOf(parameter, column).place);
        return [
            of({ name: "lr", kind: "number", log: true }, [0.001, 0.1, 0.01, null]),
            of({ name: "lr", kind: "number", log: true }, [0, 1, 0.5]),
            of({ name: "n", kind: "integer", values: [16, 64, 32] }, [16, 32, 64]),
            of({ name: "same", kind: "number" }, [3, 3]),
            of({ name: "name", kind: "category", values: ["b", "a", "c"] }, ["a", "b", null]),
            of({ name: "sizes", kind: "list" }, [[1, 2], [3]]),
        ];
    }""")
    assert [[None if at is None else round(at, 6) for at in axis] for axis in places] == [
        [0, 1, 0.5, None],
        [0, 1, 0.5],
        [0, 0.5, 1],
        [0.5, 0.5],
        [0, 0.5, None],
        [0, 1],
    ]


def test_a_search_finds_a_range_a_list_and_runs_without_a_value(page: Page) -> None:
    found = page.evaluate("""async () => {
        const { predicateOf } = await import("/static/query.js");
        const runs = [[0.9, "sgd"], [0.1, "rmsprop"], [null, "adam"]];
        const columns = [{ name: "0", title: "optimizer.momentum" }, { name: "1", title: "optimizer.name" }];
        const reading = { columns, value: (name, row) => runs[row][name], texts: () => "" };
        return ['momentum >= 0.5', 'momentum = ""', 'momentum = "" or momentum >= 0.5',
            "name = adam or name = sgd"].map((typed) => [0, 1, 2].filter(predicateOf(typed, reading)));
    }""")
    assert found == [[0], [2], [0, 2], [0, 2]]


def test_a_brush_selects_values_in_its_range_and_missing_ones_only_below_the_axis(page: Page) -> None:
    taken = page.evaluate("""async () => {
        const { axisOf } = await import("/static/charts/axes.js");
        const { Brushes } = await import("/static/charts/brushes.js");
        const column = [0, 5, 10, null];
        const axis = axisOf({ name: "x", kind: "number" }, column);
        return [[0.4, 1.1], [0.6, 0.4], [-0.15, 0.1], [-0.15, -0.07]].map(([one, other]) => {
            const brushes = new Brushes();
            brushes.setPlaces(axis, one, other);
            return column.map((value) => brushes.takes("x", value));
        });
    }""")
    assert taken == [
        [False, True, True, False],
        [False, True, False, False],
        [True, False, False, True],
        [False, False, False, True],
    ]


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (1e-5, 1.0, [1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]),
        (16, 128, [20, 50, 100]),
        (1.1, 1.9, [1.2, 1.4, 1.6, 1.8]),
    ],
)
def test_ticks_of_a_log_axis_are_round(page: Page, low: float, high: float, steps: list[float]) -> None:
    assert call(page, "scales", "logSteps", low, high, 6) == pytest.approx(steps)


LISTED: Final = """
async (most) => {
  const { scaleOf } = await import("/static/charts/scales.js");
  const scale = scaleOf({ kind: "log", low: 16, high: 128, listed: [16, 32, 64, 128] });
  return scale.ticks(most).map(({ text }) => text);
}
"""


@pytest.mark.parametrize(("most", "texts"), [(4, ["16", "32", "64", "128"]), (3, ["16", "64"])])
def test_an_axis_of_listed_numbers_has_ticks_at_these_only(page: Page, most: int, texts: list[str]) -> None:
    assert page.evaluate(LISTED, most) == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (3, "3"),
        (0.123456, "0.1235"),
        (0.00001234, "1.234e-5"),
        (1234567890.5, "1.235e9"),
        (1e-4, "1e-4"),
        (2_500_000, "2.5e6"),
    ],
)
def test_numbers_have_a_short_format(page: Page, value: float | None, text: str) -> None:
    assert call(page, "numbers", "short", value) == text


CSV: Final = """
async () => {
  const { Chart } = await import("/static/charts/chart.js");
  const chart = new Chart(document.createElement("figure"), { name: "any", title: "Any" });
  chart.rows = () => [["run", "loss"], ['a "b", c', 1234567890.5], ["=SUM(A1)", null]];
  return chart.toCSV();
}
"""


def test_a_charts_csv_keeps_its_values_and_escapes_formulas(page: Page) -> None:
    rows = list(csv.reader(io.StringIO(page.evaluate(CSV), newline="")))
    assert rows == [["run", "loss"], ['a "b", c', "1234567890.5"], ["'=SUM(A1)", ""]]
