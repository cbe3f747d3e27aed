"""Guarantees for every test: an environment of its own, and no process left behind.

A test that starts processes gives them `clean_env`. After each test no process
may be left that descends from the test or lives in its environment; those that
are left fail the test, and are killed.
"""

from __future__ import annotations

import compileall
import gc
import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from parallel_hpo.worker.tree import children
from tests.postgresql import PostgreSQL, running, why_not

FOREIGN = ("WANDB_", "PARALLEL_HPO_", "XDG_")
"""Prefixes of variables of the developer's shell that would affect a test."""

PACKAGE = Path(__file__).parents[1] / "parallel_hpo"
QUIET = {
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_X_DISABLE_STATS": "true",
    "WANDB_X_DISABLE_MACHINE_INFO": "true",
    "WANDB_X_SAVE_REQUIREMENTS": "false",
}
"""Client settings that turn off inspection of the machine, half the cost of a short run."""
PACKAGES = re.compile(r" ?\(Debian: apt-get install ([^)]+)\)")
"""Pattern of the needed packages in the reason of a skipped test."""
LEAVE_WITHIN_S = 10.0
"""Timeout for processes to end in seconds; wandb-core outlives a killed parent by up to 4 s."""


settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # the other core may run a whole sweep at the same time
gc.disable()  # until all tests are collected: it would take a third of that time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a terminal, also where the tests run under nohup
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options that run tests on PostgreSQL, or with an installed wheel."""
    parser.addoption(
        "--on-postgresql", action="store_true", help="run the contract tests on PostgreSQL, not on SQLite"
    )
    parser.addoption(
        "--installed-in", type=Path, metavar="PYTHON", help="try the wheel that this interpreter has"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once, before hundreds of processes import it; create one temporary folder.

    Where PYTHONDONTWRITEBYTECODE is set, as in many containers, each of them would compile it for itself.
    A client that a test kills can't remove its temporary folders.
    """
    if hasattr(config, "workerinput"):  # their controller has done it for the workers of pytest-xdist
        return
    compileall.compile_dir(PACKAGE, quiet=2)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # stays in its place
    folder = tempfile.mkdtemp(prefix="t-")  # short: there are sockets in it
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but never look through the tests for it."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Print last the programs that skipped tests need, and the command that installs them."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    line = summarize_missing(each.longrepr[2] for each in reports if isinstance(each.longrepr, tuple))
    if line:
        terminalreporter.write_line(line, yellow=True)


def summarize_missing(reasons: Iterable[str]) -> str:
    """Return one line about the tests that were skipped for a missing program; '' if there are none."""
    numbers = Counter(reason.removeprefix("Skipped: ") for reason in reasons if PACKAGES.search(reason))
    if not numbers:
        return ""
    causes = "; ".join(f"{PACKAGES.sub('', reason)} ({number})" for reason, number in numbers.most_common())
    needed = dict.fromkeys(name for reason in numbers for name in PACKAGES.findall(reason)[0].split())
    return f"{numbers.total()} skipped: {causes}. To run them (Debian): apt-get install {' '.join(needed)}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server for the tests that need one; they are skipped without it."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with running() as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _only_our_own_environment() -> Iterator[None]:
    """Keep the developer's W&B settings out of what tests call in this process."""
    foreign = {name: value for name, value in os.environ.items() if name.startswith(FOREIGN)}
    for name in foreign:
        del os.environ[name]
    yield
    os.environ.update(foreign)


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left_at_the_end(_only_our_own_environment: None) -> Iterator[None]:
    """Catch what module and session fixtures started and did not end."""
    yield
    _expect_to_leave(_descendants)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail a test that leaves a process; those of wider fixtures may live on and start others."""
    before = set(_descendants())
    yield
    _expect_to_leave(
        lambda: [each for each in _descendants() if each not in before and not _is_of(before, each)]
    )


@pytest.fixture
def clean_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment for a test's processes: no W&B settings, and a home of its own.

    Any process that still runs with that home when the test ends counts as left behind,
    even an orphan.
    """
    with clean_env_in(tmp_path / "home") as environment:
        yield environment


@contextmanager
def clean_env_in(home: Path) -> Iterator[dict[str, str]]:
    """Yield a clean environment in this home; fail if a process still runs there at the end."""
    yield make_clean_env(home)
    _expect_to_leave(lambda: _living_in(home))


def make_clean_env(home: Path) -> dict[str, str]:
    """Return this process's environment with all folders in `home`, which are created, and quiet clients."""
    places = {
        "WANDB_DIR": home,
        "WANDB_CONFIG_DIR": home / "wandb-config",
        "WANDB_CACHE_DIR": home / "wandb-cache",
        "WANDB_DATA_DIR": home / "wandb-data",
    }
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    named = {name: str(place) for name, place in places.items()}
    return own | QUIET | named | {"HOME": str(home), "NETRC": str(home / ".netrc")}


def _descendants() -> list[psutil.Process]:
    """Return all processes below this one except multiprocessing's tracker, which lives as long."""
    return [process for process in _below(None) if _is_ours(process)]


def _below(pid: int | None) -> Iterator[psutil.Process]:
    """Yield the descendants of a process from the top down, without a scan of all processes."""
    with suppress(psutil.NoSuchProcess):
        for child in children(pid):
            yield child
            yield from _below(child.pid)


def _is_of(known: set[psutil.Process], process: psutil.Process) -> bool:
    """Return whether a known process started this one."""
    try:
        return not known.isdisjoint(process.parents())
    except psutil.NoSuchProcess:
        return True


def _is_ours(process: psutil.Process) -> bool:
    try:
        return not any("resource_tracker" in word for word in process.cmdline())
    except psutil.ZombieProcess:
        return True
    except psutil.NoSuchProcess:
        return False


def _living_in(home: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _home_of(process) == str(home)]


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except (psutil.Error, OSError):
        return None


def _expect_to_leave(living: Callable[[], list[psutil.Process]]) -> None:
    """Wait until `living` finds none; kill and report what is left after the deadline."""
    deadline = time.monotonic() + LEAVE_WITHIN_S
    while (left := living()) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    if left:
        words = [_in_words(process) for process in left]
        for process in left:
            _kill(process)
        pytest.fail("left behind after the test: " + "; ".join(words))


def _in_words(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}) {' '.join(process.cmdline())}"
    except psutil.Error as gone:
        return str(gone)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
