"""Makes a release for scripts/release: updates version and changelog, builds, commits and tags."""

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
    """The release can't be made now; the message says why, and what to do."""


def main(arguments: Sequence[str], *, root: Path = ROOT, today: str) -> int:
    """Parse the command line, and make the release or print what would be done."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("version", help="the new version, such as 0.2.0")
    parser.add_argument("--yes", action="store_true", help="make the release, instead of only printing it")
    options = parser.parse_args(arguments)
    try:
        release(root, options.version, today=today, really=options.yes)
    except NotNow as error:
        print(f"scripts/release: {error}", file=sys.stderr)
        return 2
    return 0


def release(root: Path, version: str, *, today: str, really: bool) -> None:
    """Make a release of the current commit; NotNow, without any changes, if that is impossible."""
    expect_new(version, current=version_in((root / VERSION_FILE).read_text()), released=_tags(root))
    if changed := _git(root, "status", "--porcelain"):
        raise NotNow(f"there are uncommitted changes; commit or stash them:\n{changed}")
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
    """Return the version in the text of VERSION_FILE."""
    found = _ASSIGNED.search(text)
    assert found is not None
    return found[2]


def expect_new(version: str, *, current: str, released: Collection[str]) -> None:
    """Raise NotNow unless a version is valid, above all released ones, and not below the current one."""
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise NotNow(f"{version} is not a version; write it like 0.2.0 or 0.2.0rc1") from None
    if str(wanted) != version:
        raise NotNow(f"write {version} as {wanted}")
    newest = max(map(Version, released), default=None)
    if newest is not None and wanted <= newest:
        raise NotNow(f"{version} is not above {newest}, which was released (git tag)")
    if wanted < Version(current):
        raise NotNow(f"{version} is below {current}, which {VERSION_FILE} has")


def cut_changelog(text: str, version: str, today: str) -> tuple[str, str]:
    """Return the changelog with the unreleased part under the version, and that part; NotNow if empty."""
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
    """Build the sdist and wheel in dist/, and return their paths; NotNow if a check fails."""
    _run(root, sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".")
    built = [f"dist/parallel_hpo-{version}{end}" for end in (".tar.gz", "-py3-none-any.whl")]
    _run(root, sys.executable, "-m", "twine", "check", "--strict", *built)
    return built


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[None]:
    """Restore the working tree, which had no changes, if the block fails."""
    try:
        yield
    except BaseException:
        _git(root, "checkout", "--quiet", "HEAD", "--", VERSION_FILE, CHANGELOG)
        raise


def _git(root: Path, *words: str) -> str:
    return _run(root, "git", *words)


def _run(root: Path, *command: str) -> str:
    """Return a program's output; NotNow with its output if it fails."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise NotNow(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], today=datetime.now(UTC).date().isoformat()))
