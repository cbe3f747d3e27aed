"""GraphQL operations of the installed client: the server supports them, and changes are detected."""

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
    """Return the new operations in this source, compared with the reviewed source `before`."""
    known: dict[str, str] = {}
    for text in (before, source):
        (folder / "client.py").write_text(text)
        found = carried(folder)
        news = moves(found, known)
        known = with_these(found, known)
    return [move for move in news if move.is_news]


@pytest.mark.leans_on_wandb
def test_the_clients_operations_are_supported_by_the_server() -> None:
    verdicts = {document.name: document.verdict for document in carried(client_folder())}
    asked = {name: verdicts[name] for name in (OF_WANDB_CORE + OF_THE_API).split() if name in verdicts}
    assert asked == dict.fromkeys(asked, UNDERSTOOD)
    assert {"UpsertBucket", "Viewer", "GetSweep", "GetProjects"} <= set(asked)


def test_the_installed_client_has_no_unreviewed_operation() -> None:
    found = carried(client_folder())
    assert len(found) > 100
    assert [str(move) for move in moves(found, LookedAt.read().documents) if move.is_news] == []


def test_the_docs_list_the_reviewed_releases() -> None:
    assert f"| {', '.join(LookedAt.read().releases)} |" in (ROOT / "docs" / "releases.md").read_text()


def test_only_unverifiable_operations_are_new_if_the_server_supports_the_rest(tmp_path: Path) -> None:
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
def test_a_changed_operation_is_new_unless_the_server_supports_it(
    tmp_path: Path, old: str, new: str, news: list[str]
) -> None:
    assert old in CLIENT
    changed = read(tmp_path, CLIENT.replace(old, new), before=CLIENT)
    assert [move.document.name for move in changed] == news


def test_a_refused_operation_is_not_new() -> None:
    text = VIEWER.replace("viewer", "runQueues").replace("id", "nothing")
    (move,) = moves(in_core(f"\0{text}\0"), {})
    assert (move.verdict, move.is_news) == ("refused in words", False)
