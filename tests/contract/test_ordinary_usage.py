"""Ordinary usage of wandb, step by step, unchanged; and the table of what works, which is what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.contract import conformance, surface
from tests.contract.clients.surface import calls
from tests.contract.serving import Server

LONG: Final = ("analysis", "commands", "sweeps", "tools")
PARTS: Final = [
    pytest.param(part, marks=pytest.mark.thorough) if part in LONG else part for part in conformance.PARTS
]
"""What those do with the client, sweeps and their commands, all process tests do too."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", PARTS)
def test_the_client_finds_what_the_conformance_table_says(server: Server, part: str) -> None:
    found = conformance.find(server, part)
    table = conformance.read(conformance.FILE.read_text(encoding="utf-8"))[conformance.NEWEST]
    assert found == {feature: table.get(feature) for feature in found}


def test_the_table_has_at_least_sixty_steps_and_no_failure() -> None:
    table = conformance.read(conformance.FILE.read_text(encoding="utf-8"))
    for column in (conformance.NEWEST, conformance.OLDEST):
        assert len(table[column]) >= 60
        assert set(table[column].values()) <= {"works", "clear error", "not in this client"}


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_all_that_the_client_documents_does_the_same_in_a_sweep_as_in_plain_python(tmp_path: Path) -> None:
    found = surface.find(tmp_path, calls.all_cases())
    assert [(place.missing, place.lost) for place in found.values()] == [((), ())] * len(found)
    assert surface.differences(found) == {}
