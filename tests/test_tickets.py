"""Tickets and passes: what is genuine, what is not, and how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core import keys
from parallel_hpo.core.keys import worker_key

MASTER = "0123456789" * 4
OTHER = "9876543210" * 4
NOW = 1_700_000_000.0


def test_a_ticket_says_when_it_was_issued_and_is_like_no_other() -> None:
    key = keys.ticket_key(MASTER)
    first, second = (keys.read(key, keys.issue(key, NOW)) for _ in range(2))
    assert first is not None and second is not None
    assert first.issued_at == NOW
    assert first.name != second.name


def test_a_ticket_of_another_server_is_none() -> None:
    assert keys.read(keys.ticket_key(MASTER), keys.issue(keys.ticket_key(OTHER), NOW)) is None


@given(st.text())
def test_no_text_is_a_ticket_or_a_pass(text: str) -> None:
    assert keys.read(keys.ticket_key(MASTER), text) is None
    assert not keys.may_view(MASTER, text, NOW)


def test_a_ticket_that_was_changed_is_none() -> None:
    key = keys.ticket_key(MASTER)
    issued, name, mac = keys.issue(key, NOW).split("-")
    assert keys.read(key, f"{int(issued) + 1}-{name}-{mac}") is None
    assert keys.read(key, f"{issued}-{name[::-1]}-{mac}") is None


def test_a_pass_is_good_for_its_server_and_its_time() -> None:
    given = keys.viewing_pass(MASTER, NOW)
    assert keys.may_view(MASTER, given, NOW + keys.PASS_VALID_S - 1)
    assert not keys.may_view(MASTER, given, NOW + keys.PASS_VALID_S + 1)
    assert not keys.may_view(OTHER, given, NOW)


def test_a_pass_can_not_be_made_of_a_ticket_key_or_a_workers_key() -> None:
    ticket_key = keys.ticket_key(MASTER)
    for master in (ticket_key, worker_key(MASTER, "w0")):
        assert not keys.may_view(MASTER, keys.viewing_pass(master, NOW), NOW)


@pytest.mark.parametrize("secret", [MASTER, keys.ticket_key(MASTER)])
def test_no_key_stands_in_what_a_browser_is_given(secret: str) -> None:
    address = keys.with_ticket("http://127.0.0.1:1/local/p", keys.ticket_key(MASTER), NOW)
    assert secret not in address
    assert secret not in keys.viewing_pass(MASTER, NOW)
