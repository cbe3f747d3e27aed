"""Waiting bears every number of seconds that a limit of the section may be."""

from __future__ import annotations

import os

import pytest

from parallel_hpo.session.signals import wait


@pytest.mark.parametrize("seconds", [0.0, 30 * 86400.0, 1e30, float("inf"), None])
def test_what_can_be_read_is_there_at_once_however_long_one_would_wait(seconds: float | None) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"!")
    assert wait([reader], seconds) == [reader]
    os.close(writer)
    os.close(reader)


def test_unreadable_sources_yield_nothing_after_the_timeout() -> None:
    reader, writer = os.pipe()
    assert wait([reader], 0.0) == []
    os.close(writer)
    os.close(reader)
