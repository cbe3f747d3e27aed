"""What follows a failed run (its folder, and `on_failure`) and the end of a sweep (`on_end`, and `notify` by
Apprise).

    loop ── FailedRun ──▶ a few threads ──▶ <sweep id>/failed/<run id>/ ──▶ on_failure

    <sweep id>/failed/<run id>/  run.json  parameters.json  reason.txt  traceback.txt
                                 output.log  packages.txt  environment.json

The loop does not wait for it; the sweep's end does, unless a stop leaves no time. Errors here only warn.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final, TextIO

from parallel_hpo.analysis.result import SweepResult, describe_run
from parallel_hpo.analysis.table import RunSummary
from parallel_hpo.config.tables import words_of
from parallel_hpo.core.errors import ConfigError, MissingExtraError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Outcome
from parallel_hpo.core.values import last_words
from parallel_hpo.core.version import library
from parallel_hpo.processes.environment import SECRET, secrets_of
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.waiting import StopAware, StoppedError, in_thread

LIMIT_S: Final = 30.0
"""Timeout of a command, in seconds."""
_OUTPUT_BYTES: Final = 16384
"""Bytes read from the end of a command's output."""


class Commands:
    """Runs the user's commands, with JSON on standard input and a timeout; usable from any thread.

    Each has its own process session, so a terminal's Ctrl-C does not reach it; the timeout kills the whole
    session. Its output is read only if it fails.
    """

    def __init__(self, environment: Mapping[str, str], folder: str, *, limit_s: float = LIMIT_S) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self._limit_s = limit_s
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._given_up = False

    def run(self, words: Sequence[str], text: str) -> str:
        """Run a command with `text` on standard input, and wait for its end; return why it failed, or ''."""
        try:
            with (
                tempfile.TemporaryFile("w+") as stdin,
                tempfile.TemporaryFile("w+", errors="replace") as output,
            ):
                stdin.write(text)
                stdin.seek(0)
                return self._await(self._start(words, stdin, output), output)
        except (OSError, ValueError) as error:  # ValueError: a null character in a word
            return f"can't be started: {error}"

    def give_up(self) -> None:
        """Kill running commands, and start no more."""
        with self._lock:
            self._given_up = True
            for process in self._running:
                _kill_session(process)

    def _start(self, words: Sequence[str], stdin: TextIO, output: TextIO) -> subprocess.Popen[str] | None:
        with self._lock:
            if self._given_up:
                return None
            process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _await(self, process: subprocess.Popen[str] | None, output: TextIO) -> str:
        if process is None:
            return "not run: the sweep was stopped"
        try:
            code = process.wait(self._limit_s)
        except subprocess.TimeoutExpired:
            _kill_session(process)
            process.wait()
            return f"killed after {self._limit_s:g} s"
        finally:
            with self._lock:
                self._running.discard(process)
        if self._given_up and code < 0:
            return "killed: the sweep was stopped"
        return "" if code == 0 else f"{_name_of_end(code)}{_last_output(output)}"


def _kill_session(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # already exited, not reaped yet
        os.killpg(process.pid, signal.SIGKILL)


def _name_of_end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _last_output(output: TextIO) -> str:
    text = os.pread(output.fileno(), _OUTPUT_BYTES, max(0, os.fstat(output.fileno()).st_size - _OUTPUT_BYTES))
    words = last_words(text.decode(errors="replace"))
    return f": {words}" if words else ""


def notify_end(result: SweepResult, setting: LaunchSettings, commands: Commands) -> None:
    """Run `on_end`, then `notify`, unless another stop comes first."""
    section = setting.section
    if section.on_end is None and not section.notify:
        return
    setting.control.take()  # the stop that ended the sweep does not shorten the time of `on_end`
    try:
        waits = StopAware(setting.control, grace_s=0.0)
        if section.on_end is not None:
            words = words_of(section.on_end)
            _say(setting, "on_end", waits.call(lambda: commands.run(words, result.to_json())))
        if section.notify:
            _say(setting, "notify", waits.call(lambda: _send_in_time(section.notify, result)))
    except StoppedError:
        commands.give_up()
        _say(setting, "on_end and notify", "cut short by another stop")


def _send_in_time(addresses: list[str], result: SweepResult) -> str:
    try:
        return in_thread(lambda: send(addresses, result)).result(LIMIT_S)
    except NotInTime:
        return f"no answer within {LIMIT_S:g} s"


def _say(setting: LaunchSettings, what: str, why: str) -> None:
    if why:
        setting.observer(Message(f"{what}: {why}", warning=True))


def check_addresses(addresses: Sequence[str]) -> None:
    """Raise ConfigError if Apprise is missing or does not know an address; the message has no secrets of
    it."""
    if addresses:
        apprise = _apprise()
        for number, address in enumerate(addresses, 1):
            if not apprise.Apprise().add(address):
                kind = address.partition("://")[0][:20] if "://" in address else "no scheme"
                raise ConfigError(
                    f"hpo.notify: address {number} ({kind}) is none that Apprise knows;"
                    " allowed: what its list of services says, such as mailto://user:password@example.com"
                )


def send(addresses: Sequence[str], result: SweepResult) -> str:
    """Notify all addresses of a sweep's end; return why some failed, or ''."""
    failed = [address for address in addresses if not _notify(address, result)]
    kinds = ", ".join(address.partition("://")[0] for address in failed)
    return f"{len(failed)} of {len(addresses)} addresses failed ({kinds})" if failed else ""


def _notify(address: str, result: SweepResult) -> bool:
    service = _apprise().Apprise()
    try:
        return bool(service.add(address) and service.notify(title=title_of(result), body=body_of(result)))
    except Exception:  # noqa: BLE001 - plugins of a hundred services raise anything
        return False


def title_of(result: SweepResult) -> str:
    """Return a one-line summary of an ended sweep."""
    bad = result.failed + result.crashed
    runs = f"{result.finished} of {result.attempted} runs finished" + (f", {bad} failed" if bad else "")
    return f"sweep {result.sweep_id}: {runs}"


def body_of(result: SweepResult) -> str:
    """Return the text of a notification about an ended sweep."""
    best = "no run finished with a value to compare"
    if result.best is not None:
        best = f"best: run {result.best.run_id} with {result.best.value:g}: {result.best.parameters}"
    return "\n".join([f"ended: {result.stop_reason} (exit code {result.exit_code})", best, result.sweep_url])


def _apprise() -> Any:
    try:
        return library("apprise", extra="notify")  # takes half a second
    except MissingExtraError as error:
        raise ConfigError(f"hpo.notify: {error}") from None


FAILED: Final = "failed"
"""Name of the folder of failed runs, within the sweep's folder."""
ADDRESSES: Final = "PARALLEL_HPO_NOTIFY"
"""An environment variable with secrets: Apprise addresses contain them."""
_SECRET_PARTS: Final = (
    (re.compile(r"(?<=://)[^\s\"']*@"), "…@"),
    (
        re.compile(r"(?i)([?&;]|\b)([\w-]*(?:key|token|secret|passw|pwd|auth|sig)[\w-]*=)[^&;\s\"']+"),
        r"\1\2…",
    ),
    (re.compile(r"(?i)(https?://[^\s/\"']*(?:hook|discord)[^\s/\"']*/)[^\s\"']+"), r"\1…"),
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*"), "…"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|hf|xox[a-z]|wandb_v\d)[-_][\w-]{10,}"), "…"),
    (re.compile(r"(?=[A-Za-z+=]*\d)(?=[0-9+=]*[A-Za-z])[A-Za-z0-9+=]{20,}"), "…"),
)
"""Parts of a value that look like a secret, and their replacements: passwords in addresses,
`key=value`, webhooks, private keys, keys with a service's prefix, long words of letters and digits."""
_HEADER: Final = "Traceback (most recent call last):"
_CHAINED: Final = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_CRASH: Final = ("Fatal Python error:", "Current thread 0x", "Thread 0x")
"""First words of the stacks that a dying or stalled interpreter prints."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that has failed or crashed for good, with its traceback and output."""

    run: RunSummary
    traceback: str
    """From its worker; empty if the worker died or the run is a program."""
    last_lines: Sequence[str]
    """Last lines of its process tree's output."""
    environment: Mapping[str, str] = field(repr=False)


def write_failed_run(folder: Path, failed: FailedRun, facts: Mapping[str, Any]) -> None:
    """Write a failed run's folder; `facts` is the input of `on_failure`. Raises OSError."""
    for private in (folder.parent, folder):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.chmod(0o700)
    secrets = secrets_of(failed.environment)
    reason = _mask(failed.run.reason, secrets)
    texts = {
        "run.json": _as_json({**facts, "reason": reason}),
        "parameters.json": _as_json(failed.run.parameters),
        "reason.txt": f"{failed.run.outcome}: {reason}\n",
        "traceback.txt": _mask(failed.traceback or find_traceback(failed.last_lines), secrets),
        "output.log": _mask("".join(f"{line}\n" for line in failed.last_lines), secrets),
        "packages.txt": packages(),
        "environment.json": _as_json(without_secrets(failed.environment)),
    }
    for name, text in texts.items():
        _write_private(folder / name, text)


def _write_private(path: Path, text: str) -> None:
    """Write a file with mode 600, even if it exists with another mode."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        os.fchmod(handle, 0o600)
        file.write(text)


def _mask(text: str, secrets: Sequence[str]) -> str:
    """Replace values of secret variables in printed text."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those with a secret's name, and with secrets in values replaced."""
    return {
        name: _without_secret_parts(value)
        for name, value in sorted(environment.items())
        if not SECRET.search(name) and name != ADDRESSES
    }


def _without_secret_parts(value: str) -> str:
    for pattern, shown in _SECRET_PARTS:
        value = pattern.sub(shown, value)
    return value


@cache
def packages() -> str:
    """Return the versions of Python and of all installed packages, in pip's format."""
    metadata = [each.metadata for each in distributions()]  # read and parsed at each look
    found = {str(each["Name"]): each["Version"] for each in metadata if each["Name"]}
    lines = [
        f"{name}=={version}" for name, version in sorted(found.items(), key=lambda pair: pair[0].lower())
    ]
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *lines, ""])


def find_traceback(lines: Sequence[str]) -> str:
    """Return the last traceback among printed lines, with its causes; '' if there is none."""
    starts = [index for index, line in enumerate(lines) if line.strip() == _HEADER]
    if not starts:
        return _find_stacks(lines)
    start = starts.pop()
    while starts and any(line.strip() in _CHAINED for line in lines[max(0, start - 2) : start]):
        start = starts.pop()
    end = next(
        (index for index in range(start, len(lines)) if lines[index].startswith("wandb: ")), len(lines)
    )
    return "".join(f"{line}\n" for line in lines[start:end])


def _find_stacks(lines: Sequence[str]) -> str:
    start = next((index for index, line in enumerate(lines) if line.startswith(_CRASH)), len(lines))
    return "".join(f"{line}\n" for line in lines[start:])


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


BAD: Final = (Outcome.FAILED, Outcome.CRASHED)
"""Outcomes that need a look."""
THREADS: Final = 4
"""Concurrent commands: fifty runs that fail alike must not delay the end by fifty times 30 s."""
TAIL_LIMIT_S: Final = 5.0
"""Timeout for the last lines of output, in seconds. They take milliseconds, unless the logs' disk hangs."""


class FailureHandler:
    """Writes the folders of a sweep's failed runs, and runs `on_failure`."""

    def __init__(
        self, folder: Path, command: Sequence[str], *, commands: Commands, observer: Observer
    ) -> None:
        """`folder` is the sweep's; `command` has the words of `on_failure`, if any."""
        self._folder = folder
        self._command = command
        self._commands = commands
        self._observer = observer
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="parallel_hpo-failures")
        self._jobs: list[Future[None]] = []

    def take(
        self, row: RunRow, end: AttemptEnd, tail: Future[list[str]], environment: Mapping[str, str]
    ) -> None:
        """Handle a run that ended this way, in another thread; `tail` will hold its last output."""
        ended = replace(
            row, outcome=end.outcome, reason=end.reason, value=end.value, duration_s=end.duration_s
        )
        self._jobs.append(self._threads.submit(self._see_to, ended, end.traceback, tail, environment))

    def finish(self) -> None:
        """Wait until all runs are handled."""
        wait(self._jobs)

    def give_up(self) -> None:
        """Start no more, and kill running commands."""
        left = sum(job.cancel() for job in self._jobs)
        self._commands.give_up()
        self._threads.shutdown(wait=False)
        if left:
            words = f"{left} failed runs have no folder, and on_failure was not called for them: no time left"
            self._observer(Message(words, warning=True))

    def _see_to(
        self, row: RunRow, traceback: str, tail: Future[list[str]], environment: Mapping[str, str]
    ) -> None:
        folder = self._folder / FAILED / row.run_id
        failed = FailedRun(describe_run(row), traceback, _lines(tail), environment)
        facts = {**asdict(failed.run), "sweep_id": self._folder.name, "folder": str(folder)}
        try:
            write_failed_run(folder, failed, facts)
        except OSError as error:
            self._warn(f"the folder of failed run {row.run_id} could not be written: {error}")
        if self._command and (why := self._commands.run(self._command, json.dumps(facts))):
            self._warn(f"on_failure for run {row.run_id}: {why}")

    def _warn(self, words: str) -> None:
        self._observer(Message(words, warning=True))


def _lines(tail: Future[list[str]]) -> list[str]:
    try:
        return tail.result(TAIL_LIMIT_S)
    except NotInTime:
        return []
