"""What a run counts as, from how `main` left it: pure, the README's "What counts" as code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from parallel_hpo.words import Outcome
from parallel_hpo.worker.birth import describe, in_one_line

INTERRUPTED_EXIT = 255
"""The exit code of a run that Ctrl-C ended, as wandb itself reports it."""


class Asked(StrEnum):
    """Who asked `main` to stop, if anyone did."""

    NOBODY = "nobody"
    SUPERVISOR = "the supervisor"
    """The sweep's processes leave: the run is stopped, and a resumed sweep runs it again."""
    SWEEP = "the sweep"
    """Its server ends the run early: it is stopped, and performed."""
    LIMIT = "a limit"
    """It is past a limit of the configuration: it has failed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A demand that `main` stop; `reason` is what the run's will be."""

    who: Asked
    reason: str


NOT_ASKED: Final = Ask(Asked.NOBODY, "")
STOPPED_BY_SWEEP: Final = Ask(Asked.SWEEP, "stopped by the sweep")


class ProgramExit(SystemExit):
    """A sweep's program left with `code`, and `words` is what it said last."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(code)
        self.words = words


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended, and the exit code that its W&B run is closed with."""

    outcome: Outcome
    reason: str
    exit_code: int


def judge(error: BaseException | None, *, ask: Ask, unopened: str = "") -> Verdict:
    """Return what a run counts as whose `main` returned (`error` is None) or raised `error`.

    What `main` made of a demand to stop changes nothing. `unopened` says why it opened no W&B run;
    empty where it did.
    """
    match ask.who:
        case Asked.SUPERVISOR:
            return Verdict(Outcome.STOPPED, ask.reason, INTERRUPTED_EXIT)
        case Asked.SWEEP:
            return Verdict(Outcome.STOPPED, ask.reason, 1)
        case Asked.LIMIT:
            return Verdict(Outcome.FAILED, ask.reason, 1)
    verdict = _judge_error(error)
    if verdict.outcome is Outcome.FINISHED and unopened:
        return Verdict(Outcome.FAILED, unopened, 1)
    return verdict


def _judge_error(error: BaseException | None) -> Verdict:
    match error:
        case None:
            return Verdict(Outcome.FINISHED, "", 0)
        case ProgramExit(words=words) if words:
            verdict = _judge_exit(error.code)
            return replace(verdict, reason=f"{verdict.reason}: {words}")
        case SystemExit():
            return _judge_exit(error.code)
        case KeyboardInterrupt():
            return Verdict(Outcome.FAILED, describe(error), INTERRUPTED_EXIT)
        case _:
            return Verdict(Outcome.FAILED, describe(error), 1)


def _judge_exit(code: object) -> Verdict:
    """`sys.exit` as the interpreter reads it: nothing or 0 is success, a text is code 1."""
    if code is None or (isinstance(code, int) and code == 0):
        return Verdict(Outcome.FINISHED, "", 0)
    if isinstance(code, int):
        return Verdict(Outcome.FAILED, f"exit {code}", code & 0xFF or 1)
    return Verdict(Outcome.FAILED, f"exit 1: {in_one_line(code)}"[:500], 1)
