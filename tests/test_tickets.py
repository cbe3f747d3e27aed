"""Tickets and passes: what is genuine, what is not, and how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo import tickets
from parallel_hpo.keys import worker_key

MASTER = "0123456789" * 4
OTHER = "9876543210" * 4
NOW = 1_700_000_000.0


def test_a_ticket_says_when_it_was_issued_and_is_like_no_other() -> None:
    key = tickets.ticket_key(MASTER)
    first, second = (tickets.read(key, tickets.issue(key, NOW)) for _ in range(2))
    assert first is not None and second is not None
    assert first.issued_at == NOW
    assert first.name != second.name


def test_a_ticket_of_another_server_is_none() -> None:
    assert tickets.read(tickets.ticket_key(MASTER), tickets.issue(tickets.ticket_key(OTHER), NOW)) is None


@given(st.text())
def test_no_text_is_a_ticket_or_a_pass(text: str) -> None:
    assert tickets.read(tickets.ticket_key(MASTER), text) is None
    assert not tickets.may_view(MASTER, text, NOW)


def test_a_ticket_that_was_changed_is_none() -> None:
    key = tickets.ticket_key(MASTER)
    issued, name, mac = tickets.issue(key, NOW).split("-")
    assert tickets.read(key, f"{int(issued) + 1}-{name}-{mac}") is None
    assert tickets.read(key, f"{issued}-{name[::-1]}-{mac}") is None


def test_a_pass_is_good_for_its_server_and_its_time() -> None:
    given = tickets.viewing_pass(MASTER, NOW)
    assert tickets.may_view(MASTER, given, NOW + tickets.PASS_VALID_S - 1)
    assert not tickets.may_view(MASTER, given, NOW + tickets.PASS_VALID_S + 1)
    assert not tickets.may_view(OTHER, given, NOW)


def test_a_pass_can_not_be_made_of_a_ticket_key_or_a_workers_key() -> None:
    ticket_key = tickets.ticket_key(MASTER)
    for master in (ticket_key, worker_key(MASTER, "w0")):
        assert not tickets.may_view(MASTER, tickets.viewing_pass(master, NOW), NOW)


@pytest.mark.parametrize("secret", [MASTER, tickets.ticket_key(MASTER)])
def test_no_key_stands_in_what_a_browser_is_given(secret: str) -> None:
    address = tickets.with_ticket("http://127.0.0.1:1/local/p", tickets.ticket_key(MASTER), NOW)
    assert secret not in address
    assert secret not in tickets.viewing_pass(MASTER, NOW)
