"""A sweep's result at a prompt and in a notebook, and its plots."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from parallel_hpo import SweepResult, UsageError
from parallel_hpo.analysis.plots import Plots
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import odd_sweep, result_of, row

RESULT = result_of([row(0, {"lr": 0.1}, 0.25), row(1, {"lr": 0.2}, None, Outcome.FAILED)])


def test_a_result_at_a_prompt_is_one_line_with_counts_and_the_best_run() -> None:
    assert repr(RESULT) == (
        "<SweepResult abc: 2 runs, 1 finished, 1 failed; count reached; best loss 0.25 (run run0)>"
    )


def test_plots_at_a_prompt_list_their_methods() -> None:
    assert repr(RESULT.plots).startswith("<Plots of 2 runs: history(), importances()")


def test_an_error_in_a_notebook_is_its_message_without_our_frames() -> None:
    assert ConfigError("hpo.count is 0")._render_traceback_() == ["ConfigError: hpo.count is 0"]


def test_a_result_in_a_notebook_is_a_table_of_escaped_visible_text() -> None:
    assert "<th>lr</th><td>0.1</td>" in RESULT._repr_html_()
    url = 'http://host/"><script>'
    evil = replace(result_of([row(0, {"lr": "<script>"})]), stop_reason="\x1b]0;owned\x07", sweep_url=url)
    assert "<script>" not in evil._repr_html_()
    assert "\x1b" not in evil._repr_html_() + repr(evil)


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


@pytest.mark.parametrize("name", ["history", "parallel", "slice", "contour", "rank", "edf", "timeline"])
def test_a_sweep_in_which_no_run_finished_is_drawn_empty(name: str) -> None:
    rows = [row(number, {"x": number, "y": -number}, None, Outcome.FAILED) for number in range(3)]
    logging.getLogger("optuna").propagate = False
    draw(result_of(rows).plots, name)


def axes(plots: Plots, *parameters: str) -> set[str]:
    return {axis.title.text for axis in plots.slice(*parameters).select_xaxes()}


def test_only_varying_or_named_parameters_are_drawn_on_suitable_axes() -> None:
    plots = odd_sweep().plots
    assert {"optimizer.lr", "layers", "momentum", "mixed"} <= axes(plots)
    assert "fixed" not in axes(plots)
    assert axes(plots, "depth", "fixed") == {"depth", "fixed"}
    sometimes = [row(0, {"x": 1}, 1.0), row(1, {"x": 2, "only_here": 1}, 2.0)]
    assert axes(result_of(sometimes).plots) == {"x", "only_here"}
    assert plots.slice("optimizer.lr").layout.xaxis.type == "log"
    assert plots.history().layout.yaxis.title.text == "loss"


SAME = result_of([row(number, {"x": 1}, float(number)) for number in range(3)])
EQUAL = result_of([row(0, {"x": 1}, 1.0), row(1, {"x": 2}, 1.0), row(2, {"x": 3}, 3.0, Outcome.FAILED)])
UNKNOWN = r"no finished run has a parameter 'lr'; there: optimizer\.kind, optimizer\.lr"


@pytest.mark.parametrize(
    ("sweep", "name", "parameters", "words"),
    [
        *((odd_sweep(), name, ["lr"], UNKNOWN) for name in OF_PARAMETERS),
        *((SAME, name, [], "no parameter differs from run to run") for name in OF_PARAMETERS),
        (odd_sweep(), "contour", ["depth"], "pairs of parameters, and there is only depth"),
        (odd_sweep(), "rank", ["depth"], "pairs of parameters, and there is only depth"),
        (EQUAL, "importances", [], "two finished runs with different values"),
    ],
)
def test_what_can_not_be_drawn_is_refused(
    sweep: SweepResult, name: str, parameters: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        draw(sweep.plots, name, *parameters)


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("pandas", "to_dataframe", "pandas"),
        ("plotly", "plots.history", "plots"),
        ("plotly", "plots.timeline", "plots"),
        ("optuna", "plots.importances", "plots"),
        ("optuna", "to_study", "plots"),
    ],
)
def test_libraries_of_extras_are_imported_late_and_a_missing_one_is_named(
    missing: str, call: str, extra: str
) -> None:
    script = (
        "import sys; from parallel_hpo import HPO, ConfigLoader, SweepResult, load\n"
        "print(sorted({'pandas', 'optuna', 'plotly', 'IPython', 'ipykernel'} & sys.modules.keys()))\n"
        f"sys.modules[{missing!r}] = None\n"
        f"from tests.analysis.sweeps import odd_sweep\nodd_sweep(9).{call}()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr
    assert f"MissingExtraError: this needs {missing}" in ended.stderr
    assert f"pip install 'parallel_hpo[{extra}]'" in ended.stderr
