from __future__ import annotations

import pytest

from parallel_hpo.core.errors import ServerAwayError
from parallel_hpo.core.retry import retry


class Server:
    """A server that answers after some errors; it is asked again every 2 s by its own clock."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.said: list[Exception] = []
        self.now = 0.0

    def ask(self, within_s: float) -> str:
        return retry(
            self._answer,
            ServerAwayError,
            within_s=within_s,
            every_s=2.0,
            say=self.said.append,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "there"

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_call_is_repeated_with_one_message() -> None:
    server = Server(*(ServerAwayError(name) for name in ("first", "second")))
    assert server.ask(60.0) == "there"
    assert (server.now, [str(error) for error in server.said]) == (4.0, ["first"])


def test_the_last_error_is_raised_when_the_time_is_up() -> None:
    server = Server(*(ServerAwayError(name) for name in ("first", "second", "last", "never")))
    with pytest.raises(ServerAwayError, match="last"):
        server.ask(4.0)


def test_another_error_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        Server(KeyError("bad")).ask(60.0)
