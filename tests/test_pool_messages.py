"""What machines and their pool say to each other, as JSON."""

from __future__ import annotations

import json
from math import inf, nan

from parallel_hpo.core.pool_messages import Exchange, PooledEnd, as_json, read
from parallel_hpo.core.types import Outcome, RunId


def test_whatever_a_run_has_printed_or_raised_can_be_told() -> None:
    """A half character in a line, or a null one, would have the whole message refused again and again."""
    end = PooledEnd(RunId("r"), 1, outcome=Outcome.FAILED, reason="\udcff broken \0", value=nan)
    told = Exchange(1, 1, 0, ends=(end,), notices=({"text": "\ud800", "loss": inf},))
    body = json.dumps(as_json(told), allow_nan=False, ensure_ascii=False).encode()
    heard = read(Exchange, json.loads(body))
    assert heard.ends[0].reason == "? broken \N{REPLACEMENT CHARACTER}"
    assert heard.ends[0].value is None
    assert heard.notices == ({"text": "?", "loss": None},)
