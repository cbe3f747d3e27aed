"""A sweep's result and its plots at a prompt and in a notebook."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import result_of, row

RESULT = result_of([row(0, {"lr": 0.1}, 0.25), row(1, {"lr": 0.2}, None, Outcome.FAILED)])


def test_a_result_at_a_prompt_is_one_line_with_counts_and_the_best_run() -> None:
    assert repr(RESULT) == (
        "<SweepResult abc: 2 runs, 1 finished, 1 failed; count reached; best loss 0.25 (run run0)>"
    )


def test_a_result_in_a_notebook_is_a_table_with_the_best_runs_parameters() -> None:
    html = RESULT._repr_html_()
    assert "<th>lr</th><td>0.1</td>" in html


def test_text_of_a_result_is_escaped_in_a_notebook() -> None:
    assert "<script>" not in result_of([row(0, {"lr": "<script>"})])._repr_html_()


def test_plots_at_a_prompt_list_their_methods() -> None:
    assert repr(RESULT.plots).startswith("<Plots of 2 runs: history(), importances()")


def test_an_error_in_a_notebook_is_its_message_without_our_frames() -> None:
    assert ConfigError("hpo.count is 0")._render_traceback_() == ["ConfigError: hpo.count is 0"]


def test_control_characters_of_a_run_are_visible_in_a_notebook_and_at_the_prompt() -> None:
    result = replace(RESULT, stop_reason="\x1b]0;owned\x07")
    assert "\x1b" not in result._repr_html_() + repr(result)
