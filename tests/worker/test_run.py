"""How a run has ended, and how it is told."""

from __future__ import annotations

import math

import pytest

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.types import NEVER_INITIALISED, Outcome
from parallel_hpo.worker.rerun import print_end
from parallel_hpo.worker.run import (
    INTERRUPTED_EXIT,
    NOT_ASKED,
    RunVerdict,
    StopRequest,
    StopSource,
    classify,
    explain_missing,
)

FINISHED = RunVerdict(Outcome.FINISHED, "", 0)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def failed(reason: str, exit_code: int = 1) -> RunVerdict:
    return RunVerdict(Outcome.FAILED, reason, exit_code)


def unasked(error: BaseException | None) -> RunVerdict:
    return classify(error, ask=NOT_ASKED)


@pytest.mark.parametrize("error", [None, SystemExit(), SystemExit(None), SystemExit(0)])
def test_a_main_that_returns_or_exits_with_0_has_finished(error: BaseException | None) -> None:
    assert unasked(error) == FINISHED


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ValueError("lr is negative"), failed("ValueError: lr is negative")),
        (ValueError("two\n  lines"), failed("ValueError: two lines")),
        (ValueError(), failed("ValueError")),
        (UnprintableError(), failed("UnprintableError: (its text can't be printed)")),
        (BaseException("odd"), failed("BaseException: odd")),
        (KeyboardInterrupt(), failed("KeyboardInterrupt", INTERRUPTED_EXIT)),  # as wandb reports it
        (SystemExit(3), failed("exit 3", 3)),
        (SystemExit(-1), failed("exit -1", 255)),
        (SystemExit(256), failed("exit 256", 1)),
        (SystemExit(True), failed("exit True", 1)),
        (SystemExit("no data"), failed("exit 1: no data")),
        (SystemExit(""), failed("exit 1: ")),
    ],
)
def test_a_main_that_raises_or_exits_otherwise_has_failed_with_its_message(
    error: BaseException, verdict: RunVerdict
) -> None:
    assert unasked(error) == verdict


def test_a_main_that_never_opened_its_run_has_failed_unless_it_raised_first() -> None:
    for error in (None, SystemExit(0)):
        assert classify(error, ask=NOT_ASKED, unopened=NEVER_INITIALISED) == failed(NEVER_INITIALISED)
    verdict = classify(ImportError("no torch"), ask=NOT_ASKED, unopened=NEVER_INITIALISED)
    assert verdict == failed("ImportError: no torch")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("in cleanup"), SystemExit(3)])
@pytest.mark.parametrize("unopened", ["", NEVER_INITIALISED])
def test_a_main_asked_to_stop_is_stopped_even_if_it_raises(
    error: BaseException | None, unopened: str
) -> None:
    by_us = classify(error, ask=StopRequest(StopSource.SUPERVISOR, "interrupted"), unopened=unopened)
    by_sweep = classify(error, ask=StopRequest(StopSource.SWEEP, "early_terminate"), unopened=unopened)
    assert by_us == RunVerdict(Outcome.STOPPED, "interrupted", INTERRUPTED_EXIT)
    assert by_sweep == RunVerdict(Outcome.STOPPED, "early_terminate", 1)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("in cleanup")])
def test_a_main_beyond_a_limit_has_failed_even_if_it_returns(error: BaseException | None) -> None:
    verdict = classify(error, ask=StopRequest(StopSource.LIMIT, "run timeout 60 s"))
    assert verdict == failed("run timeout 60 s")


def test_a_reason_has_a_maximum_length() -> None:
    for error in (ValueError("x" * 10_000), SystemExit("x" * 10_000)):
        assert len(unasked(error).reason) <= 500


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing"),
        (math.nan, "NaN"),
        ("NaN", "NaN"),
        (-math.inf, "-infinity"),
        ("Infinity", "infinity"),
        (True, "a boolean, true"),
        ("0.5", "a text, '0.5'"),
        ([0.5], "a list"),
        ({"_type": "histogram"}, "an object of type histogram"),
        ({"a": 1.0, "b": 2.0}, "a table of values"),
        ({}, "nothing"),
        ({"min": "NaN", "max": 2.0}, "NaN"),
        pytest.param(10**400, "a number that is too large", id="10**400"),
    ],
)
def test_a_metric_that_is_no_number_is_named_with_what_was_logged_instead(value: object, found: str) -> None:
    explained = explain_missing({"loss": value}, "loss", "minimize")
    assert explained is not None
    assert explained.found == found


def test_a_missing_metric_lists_logged_names_without_the_clients_own() -> None:
    summary = {"val": {"loss": 0.5, "acc": {"top1": 1}}, "_step": 3, "_wandb": {"runtime": 1}, "x": 1}
    assert explain_missing(summary, "val.loss", "minimize") is None
    assert explain_missing(summary, "loss", "minimize") == MissingMetric(
        "nothing", ("val.acc.top1", "val.loss", "x")
    )


HOSTILE = "\x1b]0;owned\x07"


@pytest.mark.parametrize("error", [ValueError(HOSTILE), SystemExit(HOSTILE), None])
def test_control_characters_in_the_reason_of_a_failure_are_visible(
    error: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(error, RunVerdict(Outcome.FAILED, HOSTILE, 1))
    assert capsys.readouterr().err.endswith("\\x1b]0;owned\\x07\n")
