from __future__ import annotations

import pytest

from parallel_hpo.core.types import NEVER_INITIALISED, Outcome
from parallel_hpo.worker.run import INTERRUPTED_EXIT, NOT_ASKED, RunVerdict, StopRequest, StopSource, classify

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
        (GeneratorExit(), failed("GeneratorExit")),
    ],
)
def test_a_main_that_raises_has_failed_with_the_exceptions_message(
    error: BaseException, verdict: RunVerdict
) -> None:
    assert unasked(error) == verdict


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (3, failed("exit 3", 3)),
        (-1, failed("exit -1", 255)),
        (256, failed("exit 256", 1)),
        (True, failed("exit True", 1)),
        ("no data", failed("exit 1: no data")),
        ("", failed("exit 1: ")),
    ],
)
def test_a_main_that_exits_with_another_code_has_failed(code: int | str, verdict: RunVerdict) -> None:
    assert unasked(SystemExit(code)) == verdict


def test_a_main_that_interrupts_itself_has_failed_as_wandb_reports_it() -> None:
    assert unasked(KeyboardInterrupt()) == failed("KeyboardInterrupt", INTERRUPTED_EXIT)


def test_a_main_that_never_opened_its_run_has_failed() -> None:
    for error in (None, SystemExit(0)):
        assert classify(error, ask=NOT_ASKED, unopened=NEVER_INITIALISED) == failed(NEVER_INITIALISED)


def test_an_exception_matters_more_than_a_missing_run() -> None:
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
