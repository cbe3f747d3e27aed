"""README and docs/ agree with the code: tables list exactly what exists, and links resolve."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from parallel_hpo import SweepResult
from parallel_hpo.cli.app import app
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.errors import ExitCode
from tests.test_imports import INNER_LEVELS, LEVELS
from tests.test_imports import ROOT as PACKAGE

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = (
    *(ROOT / "README.md", ROOT / "CHANGELOG.md"),
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted(DOCS.glob("*.md")),
)
DEVELOPERS: Final = {"dev", "docs", "example", "release", "test"}
"""Extras for work on this project itself."""
ARCHITECTURE: Final = (DOCS / "architecture.md").read_text()
COMMANDS: Final[Mapping[str, Any]] = vars(typer.main.get_command(app))["commands"]


def section(page: Path, heading: str) -> str:
    """Return the one section of a page whose heading contains this text."""
    found = [part for part in sections(page) if heading in part.partition("\n")[0]]
    assert len(found) == 1, f"{page.name} has {len(found)} sections {heading!r}"
    return found[0]


def sections(page: Path) -> list[str]:
    return re.split(r"^##+ ", page.read_text(), flags=re.MULTILINE)[1:]


def first_column(text: str) -> list[str]:
    return re.findall(r"^\| (.*?) \|", text, flags=re.MULTILINE)


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)  # without code
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match("[a-z]+:", target):
                yield page, target


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def options(command: Any) -> list[str]:
    parameters = command.get_params(typer.Context(command))
    return [name for parameter in parameters for name in parameter.opts if name.startswith("--")]


def test_the_docs_describe_each_key_of_the_hpo_section_as_help_does() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| .* \| (.*) \|$", section(DOCS / "configuration.md", "The `hpo` section"), re.M
    )
    meanings = {key: meaning.replace("`", "") for key, meaning in rows}
    for key, field in HpoSection.model_fields.items():
        words = re.sub(r" \(default: .*\)\.$", ".", field.description or "").replace("`", "")
        assert meanings.pop(key).startswith(words)
    assert not meanings


def test_the_docs_list_the_fields_of_the_result() -> None:
    fields = {field.name for field in dataclasses.fields(SweepResult)}
    listed = first_column(section(DOCS / "usage.md", "`SweepResult`"))
    assert {name for cell in listed for name in re.findall(r"`(\w+)`", cell)} == fields


def test_the_docs_list_the_exit_codes() -> None:
    codes = {f"{code}" if code is not ExitCode.SIGNAL_BASE else f"{code} + n" for code in ExitCode}
    assert set(first_column(section(DOCS / "command-line.md", "Exit codes"))) - {"code", "---"} == codes


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_docs_list_all_options_of_a_command(verb: str) -> None:
    text = section(DOCS / "command-line.md", f"`{verb}`")
    assert [name for name in options(COMMANDS[verb]) if not re.search(rf"`[a-z ]*{name}\b", text)] == [
        "--help"
    ]


def test_the_docs_list_no_unknown_option() -> None:
    text = (DOCS / "command-line.md").read_text()
    known = {name for command in COMMANDS.values() for name in options(command)}
    known |= {"--version", "--install-completion", "--show-completion"}  # options of the program itself
    assert set(re.findall(r"`[a-z ]*(--[a-z][\w-]*)", text)) - known == set()


def test_all_links_resolve() -> None:
    for page, target in links():
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), (page, target)
        assert not anchor or anchor in anchors(file), (page, target)


def test_every_page_is_in_the_navigation_and_linked_from_the_index_and_the_readme() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}
    assert set(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == pages
    assert {target for page, target in links() if page == DOCS / "index.md"} >= pages - {"index.md"}
    assert {target for page, target in links() if page == ROOT / "README.md"} >= {
        f"docs/{name}" for name in pages - {"index.md"}
    }


def pages_of(navigation: Any) -> Iterator[str]:
    """Yield the pages that a part of mkdocs.yml's `nav` names."""
    if isinstance(navigation, str):
        yield navigation
    else:
        for part in navigation if isinstance(navigation, list) else navigation.values():
            yield from pages_of(part)


def test_the_configuration_in_the_readme_is_valid() -> None:
    text = (ROOT / "README.md").read_text().split("```json\n")[1].split("```")[0]
    assert HpoSection.model_validate(json.loads(text)["hpo"]).count == 20


def test_the_architecture_names_every_package() -> None:
    rooms = {name for levels in (LEVELS, *INNER_LEVELS.values()) for level in levels for name in level}
    assert rooms - {"__init__", "__main__"} - set(re.findall(r"`(\w+)`", ARCHITECTURE)) == set()


def test_the_architecture_names_only_existing_files() -> None:
    named = re.findall(r"`(\w+/(?:[\w/]*/|[\w/]+\.\w+))`", ARCHITECTURE)
    assert [name for name in named if not any((root / name).exists() for root in (ROOT, PACKAGE))] == []


def test_the_readme_names_every_extra_that_users_may_install() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"[Tt]he\s+extras\s+are ([^.]*)\.", (ROOT / "README.md").read_text())
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(declared) - DEVELOPERS
