"""scripts/release: refusals, and a real release in a clone of this repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts.releasing import (
    CHANGELOG,
    UNRELEASED,
    VERSION_FILE,
    NotNow,
    cut_changelog,
    expect_new,
    version_in,
)

ROOT: Final = Path(__file__).parents[2]
TODAY: Final = "2030-01-31"
NEWS: Final = "### Added\n\n- Something.\n"
OLD: Final = "## [0.1.0] - 2029-12-24\n\n- All.\n"


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("next", "is not a version"),
        ("v0.2.0", "write v0.2.0 as 0.2.0"),
        ("0.2.0", "is not above 0.2.0, which was released"),
        ("0.2.0rc1", "is not above 0.2.0, which was released"),
        ("0.2.1", f"is below 0.3.0, which {VERSION_FILE} has"),
    ],
)
def test_an_invalid_or_old_version_is_refused(version: str, why: str) -> None:
    with pytest.raises(NotNow, match=why):
        expect_new(version, current="0.3.0", released=["0.1.0", "0.2.0"])


@pytest.mark.parametrize("version", ["0.3.0", "0.10.0", "1.0.0rc1"])
def test_a_version_above_all_released_ones_is_accepted(version: str) -> None:
    expect_new(version, current="0.3.0", released=["0.1.0", "0.2.0"])


def test_unreleased_changes_become_the_section_of_the_new_version() -> None:
    cut, news = cut_changelog(f"# Changelog\n\n{UNRELEASED}\n{NEWS}\n{OLD}", "0.2.0", TODAY)
    assert cut == f"# Changelog\n\n{UNRELEASED}\n## [0.2.0] - {TODAY}\n\n{NEWS}\n{OLD}"
    assert news == NEWS.strip()


@pytest.mark.parametrize("text", [f"{UNRELEASED}\n{OLD}", f"{UNRELEASED}\n### Added\n\n{OLD}", OLD])
def test_a_release_without_changes_is_refused(text: str) -> None:
    with pytest.raises(NotNow, match="Unreleased"):
        cut_changelog(text, "0.2.0", TODAY)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of this repository with the working tree's tracked changes committed."""
    place = tmp_path / "clone"
    git(ROOT, "clone", "--quiet", "--no-tags", "--local", str(ROOT), str(place))
    changed = git(ROOT, "diff", "HEAD", "--binary")
    if changed:
        subprocess.run(["git", "apply"], cwd=place, input=changed, text=True, check=True)
    git(place, "config", "user.name", "somebody")
    git(place, "config", "user.email", "somebody@example.org")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--allow-empty", "-m", "as it is now")
    return place


def git(place: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, check=True).stdout


def release(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/releasing.py", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


def state_of(place: Path) -> tuple[str, ...]:
    return git(place, "rev-parse", "HEAD"), git(place, "tag"), git(place, "status", "--porcelain")


@pytest.mark.thorough
def test_a_release_is_previewed_refused_or_made_completely(clone: Path) -> None:
    before = state_of(clone)
    said = release(clone, "7.0.0")
    assert (said.returncode, state_of(clone)) == (0, before)
    assert "would release 7.0.0" in said.stdout

    (clone / "new.txt").touch()
    refused = release(clone, "7.0.0", "--yes")
    assert (refused.returncode, "new.txt" in refused.stderr) == (2, True)
    (clone / "new.txt").unlink()

    (clone / "README.md").unlink()  # the build needs it
    git(clone, "commit", "--quiet", "--all", "-m", "a build that fails")
    broken = state_of(clone)
    failed = release(clone, "7.0.0", "--yes")
    assert (failed.returncode, "README.md" in failed.stderr, state_of(clone)) == (2, True, broken)
    git(clone, "reset", "--quiet", "--hard", "HEAD~1")

    made = release(clone, "7.0.0", "--yes")
    assert made.returncode == 0, made.stderr
    assert version_in((clone / VERSION_FILE).read_text()) == "7.0.0"
    assert f"{UNRELEASED}\n## [7.0.0] - " in (clone / CHANGELOG).read_text()
    assert git(clone, "log", "-1", "--format=%s %D").startswith("Version 7.0.0 HEAD -> ")
    assert "### Added" in git(clone, "tag", "--list", "--format=%(contents)", "v7.0.0")
    assert git(clone, "status", "--porcelain") == ""
    files = {path.name for path in (clone / "dist").iterdir()}
    assert files == {"parallel_hpo-7.0.0.tar.gz", "parallel_hpo-7.0.0-py3-none-any.whl"}
    again = release(clone, "7.0.0", "--yes")
    assert (again.returncode, "is not above 7.0.0" in again.stderr) == (2, True)
