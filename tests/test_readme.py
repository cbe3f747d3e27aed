"""The README says what the code does: its tables name exactly what there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

from parallel_hpo import SweepResult
from parallel_hpo.config.hpo import known_keys

README: Final = (Path(__file__).parents[1] / "README.md").read_text()


def names_in_table_under(heading: str) -> set[str]:
    """Return what stands in backticks in the first column of the section's table."""
    section = README.split(f"### {heading}\n")[1].split("\n### ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_readme_lists_the_keys_of_the_hpo_section() -> None:
    assert names_in_table_under("The `hpo` section") == set(known_keys())


def test_the_readme_lists_the_fields_of_the_result() -> None:
    assert names_in_table_under("`SweepResult`") == {field.name for field in dataclasses.fields(SweepResult)}
