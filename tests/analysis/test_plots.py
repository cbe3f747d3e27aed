from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from parallel_hpo import UsageError
from parallel_hpo.analysis.plots import Plots
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import odd_sweep, result_of, row

NAMES: Final = ("history", "importances", "parallel", "slice", "contour", "rank", "edf", "timeline")
OF_PARAMETERS: Final = ("importances", "parallel", "slice", "contour", "rank")


def draw(plots: Plots, name: str, *parameters: str) -> Any:
    plot: Callable[..., Any] = getattr(plots, name)
    return plot(*parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_of_odd_runs_is_drawn(name: str) -> None:
    figure = draw(odd_sweep().plots, name)
    assert len(figure.data) > 0
    assert figure.to_json()


def test_all_plots_are_tried() -> None:
    assert [name for name in vars(Plots) if not name.startswith("_")] == list(NAMES)


def test_only_varying_parameters_are_drawn() -> None:
    axes = {axis.title.text for axis in odd_sweep().plots.slice().select_xaxes()}
    assert {"optimizer.lr", "layers", "momentum", "mixed"} <= axes
    assert "fixed" not in axes


def test_a_parameter_that_some_runs_lack_varies() -> None:
    rows = [row(0, {"x": 1}, 1.0), row(1, {"x": 2, "only_here": 1}, 2.0)]
    axes = {axis.title.text for axis in result_of(rows).plots.slice().select_xaxes()}
    assert axes == {"x", "only_here"}


def test_only_named_parameters_are_drawn() -> None:
    axes = {axis.title.text for axis in odd_sweep().plots.slice("depth", "fixed").select_xaxes()}
    assert axes == {"depth", "fixed"}


def test_the_value_has_the_name_of_the_metric() -> None:
    assert odd_sweep().plots.history().layout.yaxis.title.text == "loss"


def test_a_learning_rate_has_a_logarithmic_axis() -> None:
    assert odd_sweep().plots.slice("optimizer.lr").layout.xaxis.type == "log"


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_an_unknown_parameter_is_refused(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"no finished run has a parameter 'lr'; there: optimizer\.kind, optimizer\.lr"
    ):
        draw(odd_sweep().plots, name, "lr")


@pytest.mark.parametrize("name", OF_PARAMETERS)
def test_nothing_is_drawn_without_a_varying_parameter(name: str) -> None:
    rows = [row(number, {"x": 1}, float(number)) for number in range(3)]
    with pytest.raises(UsageError, match="no parameter differs from run to run"):
        draw(result_of(rows).plots, name)


@pytest.mark.parametrize("name", ["contour", "rank"])
def test_pairs_need_two_parameters(name: str) -> None:
    with pytest.raises(UsageError, match="pairs of parameters, and there is only depth"):
        draw(odd_sweep().plots, name, "depth")


def test_importances_need_runs_that_differ() -> None:
    rows = [row(0, {"x": 1}, 1.0), row(1, {"x": 2}, 1.0), row(2, {"x": 3}, 3.0, Outcome.FAILED)]
    with pytest.raises(UsageError, match="two finished runs with different values"):
        result_of(rows).plots.importances()


@pytest.mark.parametrize("name", ["history", "parallel", "slice", "contour", "rank", "edf", "timeline"])
def test_a_sweep_in_which_no_run_finished_is_drawn_empty(name: str) -> None:
    rows = [row(number, {"x": number, "y": -number}, None, Outcome.FAILED) for number in range(3)]
    logging.getLogger("optuna").propagate = False
    draw(result_of(rows).plots, name)


@pytest.mark.parametrize("name", ["history", "importances", "timeline"])
@pytest.mark.parametrize("missing", ["plotly", "optuna"])
def test_a_missing_library_is_named_with_its_extra(missing: str, name: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from tests.analysis.sweeps import odd_sweep\n"
        f"odd_sweep(9).plots.{name}()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f"MissingExtraError: this needs {missing}" in ended.stderr
    assert "pip install 'parallel_hpo[plots]'" in ended.stderr
