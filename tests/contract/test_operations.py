"""The operations that the installed client carries: the server understands them, and changes are news."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from scripts.client_operations import (
    UNDERSTOOD,
    LookedAt,
    Move,
    carried,
    client_folder,
    in_core,
    moves,
    with_these,
)
from tests.contract.serving import ROOT

OF_WANDB_CORE: Final = """
    CreateRunFiles EnqueueSweepRun HistoryPage OrganizationCoreWeaveOrganizationID RunParquetHistory
    RunResumeStatus RunState SampledHistoryPage ServerFeaturesQuery StopRun SweepConfig SweepRunsWithHistory
    SweepWatchedRuns UpsertBucket UpsertSweepState Viewer
"""
OF_THE_API: Final = """
    GetAgentRuns GetDefaultEntity GetProject GetProjects GetSweep GetSweepAgent GetSweepAgents GetSweepLegacy
    GetSweeps GetViewer IsProjectReadOnly
"""
VIEWER: Final = "query Viewer {\n  viewer {\n    id\n  }\n}\n"
CLIENT: Final = f"""
VIEWER = '''{VIEWER}'''
def ask(field):
    "A query of nobody."
    return f"query Pieces {{{{ viewer({{field}}) {{{{ id }}}} }}}}"
FRAGMENT = "fragment OfRun on Run {{ id name }}"
"""


def read(folder: Path, source: str, before: str = "") -> list[Move]:
    """Return what is news about a client with this source, where one with the other was looked at."""
    known: dict[str, str] = {}
    for text in (before, source):
        (folder / "client.py").write_text(text)
        found = carried(folder)
        news = moves(found, known)
        known = with_these(found, known)
    return [move for move in news if move.is_news]


@pytest.mark.leans_on_wandb
def test_the_operations_of_the_client_are_understood() -> None:
    verdicts = {document.name: document.verdict for document in carried(client_folder())}
    asked = {name: verdicts[name] for name in (OF_WANDB_CORE + OF_THE_API).split() if name in verdicts}
    assert asked == dict.fromkeys(asked, UNDERSTOOD)
    assert {"UpsertBucket", "Viewer", "GetSweep", "GetProjects"} <= set(asked)


def test_the_installed_client_sends_nothing_that_nobody_has_looked_at() -> None:
    found = carried(client_folder())
    assert len(found) > 100
    assert [str(move) for move in moves(found, LookedAt.read().documents) if move.is_news] == []


def test_the_docs_name_the_releases_that_somebody_has_looked_at() -> None:
    assert f"| {', '.join(LookedAt.read().releases)} |" in (ROOT / "docs" / "releases.md").read_text()


def test_what_the_server_understands_is_no_news(tmp_path: Path) -> None:
    assert [str(move) for move in read(tmp_path, CLIENT)] == [
        "new: Pieces (client.py): put together from pieces, which only a person can judge"
    ]


@pytest.mark.parametrize(
    ("old", "new", "news"),
    [
        ("viewer {\n", "viewer {\n\n\n", []),
        ("query Viewer", "query Seer", []),
        ("    id\n", "    shoeSize\n", ["Viewer"]),
        ("id name }", "id shoeSize }", ["OfRun"]),
        ("{field}", "{fields}", ["Pieces"]),
    ],
)
def test_what_has_changed_is_news_where_it_is_not_understood(
    tmp_path: Path, old: str, new: str, news: list[str]
) -> None:
    assert old in CLIENT
    changed = read(tmp_path, CLIENT.replace(old, new), before=CLIENT)
    assert [move.document.name for move in changed] == news


def test_what_is_refused_in_words_is_no_news() -> None:
    text = VIEWER.replace("viewer", "runQueues").replace("id", "nothing")
    (move,) = moves(in_core(f"\0{text}\0"), {})
    assert (move.verdict, move.is_news) == ("refused in words", False)
