from __future__ import annotations

import pytest

from parallel_hpo.core.types import Outcome
from parallel_hpo.worker.rerun import print_end
from parallel_hpo.worker.run import RunVerdict

HOSTILE = "\x1b]0;owned\x07"


@pytest.mark.parametrize("error", [ValueError(HOSTILE), SystemExit(HOSTILE), None])
def test_control_characters_in_the_reason_of_a_failure_are_visible(
    error: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(error, RunVerdict(Outcome.FAILED, HOSTILE, 1))
    assert capsys.readouterr().err.endswith("\\x1b]0;owned\\x07\n")
