"""What scripts/release does: cut version and changelog, build, commit, tag; or say what is in the way."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

ROOT: Final = Path(__file__).resolve().parents[1]
VERSION_FILE: Final = "parallel_hpo/core/version.py"
CHANGELOG: Final = "CHANGELOG.md"
UNRELEASED: Final = "## [Unreleased]\n"
_ASSIGNED: Final = re.compile(r'^(__version__ = )"([^"]+)"$', re.MULTILINE)


class NotNow(Exception):
    """This release can't be made as things stand; its text says why and what to do."""


def main(arguments: Sequence[str], *, root: Path = ROOT, today: str) -> int:
    """Parse the command line, and make the release or say what would be made."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("version", help="the new one, such as 0.2.0")
    parser.add_argument("--yes", action="store_true", help="do it, and not only say it")
    options = parser.parse_args(arguments)
    try:
        release(root, options.version, today=today, really=options.yes)
    except NotNow as error:
        print(f"scripts/release: {error}", file=sys.stderr)
        return 2
    return 0


def release(root: Path, version: str, *, today: str, really: bool) -> None:
    """Make a release of the commit that is checked out; NotNow where that can't be, and all is as it was."""
    expect_new(version, current=version_in((root / VERSION_FILE).read_text()), released=_tags(root))
    if changed := _git(root, "status", "--porcelain"):
        raise NotNow(f"there are changes that are not committed; commit them or put them away:\n{changed}")
    cut, news = cut_changelog((root / CHANGELOG).read_text(), version, today)
    if not really:
        print(f"would release {version} with this in {CHANGELOG}:\n\n{news}\n\n--yes does it")
        return
    with _all_or_nothing(root):
        (root / CHANGELOG).write_text(cut)
        _rewrite(root / VERSION_FILE, lambda text: _ASSIGNED.sub(rf'\1"{version}"', text))
        built = _build(root, version)
        _git(root, "commit", "--quiet", "--all", "--message", f"Version {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--cleanup=verbatim", "--message", f"{version}\n\n{news}")
    print(f"{version} is committed and tagged as v{version}. To publish it:")
    print("    git push --follow-tags\n    twine upload " + " ".join(built))


def version_in(text: str) -> str:
    """Return the version that a text of VERSION_FILE assigns."""
    found = _ASSIGNED.search(text)
    assert found is not None
    return found[2]


def expect_new(version: str, *, current: str, released: Collection[str]) -> None:
    """Raise NotNow unless a version is well written, above all that were released, not below the current."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise NotNow(f"{version} is no version; allowed: such as 0.2.0 or 0.2.0rc1") from None
    if str(wanted) != version:
        raise NotNow(f"write {version} as {wanted}")
    newest = max(map(Version, released), default=None)
    if newest is not None and wanted <= newest:
        raise NotNow(f"{version} is not above {newest}, which was released (git tag)")
    if wanted < Version(current):
        raise NotNow(f"{version} is below {current}, which {VERSION_FILE} has")


def cut_changelog(text: str, version: str, today: str) -> tuple[str, str]:
    """Return a changelog in which what was unreleased is a version's, and that part; NotNow: it is empty."""
    before, found, after = text.partition(UNRELEASED)
    if not found:
        raise NotNow(f"{CHANGELOG} has no head {UNRELEASED.strip()!r}")
    news = re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0].strip()
    if not re.search(r"^- ", news, re.MULTILINE):
        raise NotNow(f"{CHANGELOG} has nothing under {UNRELEASED.strip()!r}: say what a user notices")
    return f"{before}{UNRELEASED}\n## [{version}] - {today}\n{after}", news


def _tags(root: Path) -> list[str]:
    return [tag.removeprefix("v") for tag in _git(root, "tag", "--list", "v[0-9]*").split()]


def _build(root: Path, version: str) -> list[str]:
    """Build both files of a release into dist/, return their paths; NotNow where they are not in order."""
    _run(root, sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".")
    built = [f"dist/parallel_hpo-{version}{end}" for end in (".tar.gz", "-py3-none-any.whl")]
    _run(root, sys.executable, "-m", "twine", "check", "--strict", *built)
    return built


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[None]:
    """Put the working tree, which had no changes, back where the block fails."""
    try:
        yield
    except BaseException:
        _git(root, "checkout", "--quiet", "HEAD", "--", VERSION_FILE, CHANGELOG)
        raise


def _git(root: Path, *words: str) -> str:
    return _run(root, "git", *words)


def _run(root: Path, *command: str) -> str:
    """Return what a program says; NotNow, with its words, where it fails."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise NotNow(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], today=datetime.now(UTC).date().isoformat()))
