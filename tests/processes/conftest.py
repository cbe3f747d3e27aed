"""Real sweeps in real processes, as a user starts them from a terminal."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.commanding import Command, CommandLine
from tests.conftest import QUIET, clean_env_in
from tests.processes import databases
from tests.processes.agreement import disagreements
from tests.spares import can_be_forked

MAINS: Final = Path(__file__).with_name("mains.py")
RANDOM: Final = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}
ANEW: Final = ("env", sys.executable)
"""A launcher for tests of imports: it and what it starts are new interpreters, no forks of one."""
DEADLINE_S: Final = 60.0
"""Far beyond what anything here takes, so that only a hang reaches it."""


@dataclass(frozen=True)
class Entry:
    """A line of the journal that the mains keep."""

    event: str
    run_id: str
    attempt: int
    slot: int
    pid: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a sweep's command ended."""

    code: int
    stdout: str
    stderr: str
    summary: Any


class RealSweep:
    """One `parallel-hpo run`, from its start to its end."""

    def __init__(self, folder: Path, env: dict[str, str], commands: CommandLine | None = None) -> None:
        self.folder = folder
        self._commands = commands
        self.directory = folder / "sweeps"
        self.journal = folder / "journal.jsonl"
        self.env = env | QUIET | {"JOURNAL": str(self.journal), "PARALLEL_HPO_BACKEND": "local"}
        self.process: subprocess.Popen[str] | Command | None = None
        self.launcher: tuple[str, ...] = (sys.executable,)
        """What starts the command: the interpreter, or something that becomes it."""
        self.before: Callable[[], object] | None = None
        """A function of a module's (`tests.launching`) that the command's process calls before it begins."""
        self.starts: tuple[str, ...] | None = None
        """The modules that the command starts and that are to be forks; None: what it starts mostly."""
        self.is_first = False
        """Whether the command is to make the sweeps' directory itself, and the server's tables."""
        self.retries = 1
        self.ends_its_runs = False
        """Whether `main` may end its W&B run itself, and then end otherwise."""
        self.unlike = ""
        """Why ledger and server need not say the same at the end; mostly ''."""

    def start(
        self,
        main: str,
        *,
        mains: Path = MAINS,
        sweep: dict[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
        **section: Any,
    ) -> RealSweep:
        """Start the command on a configuration of these keys; `main` is a function of the file `mains`."""
        self.retries = max(self.retries, section.get("retries", 1))
        config = self.folder / "config.json"
        keys = {"directory": str(self.directory), "sweep_configuration": sweep or RANDOM, "workers": 2}
        config.write_text(json.dumps({"hpo": keys | section}))
        self._have_tables()
        return self.start_command(
            "-m", "parallel_hpo", "run", str(config), f"{mains}:{main}", "--json", *arguments
        )

    def with_helpers(self) -> RealSweep:
        """Let the client look at the machine as it does by default, in processes of its own."""
        for name in QUIET:
            self.env.pop(name, None)
        return self

    def create(self, **section: Any) -> str:
        """Create a sweep by `--create`, with a configuration by which launches join it; return its id."""
        config = self.folder / "config.json"
        keys = {"directory": str(self.directory), "sweep_configuration": RANDOM}
        config.write_text(json.dumps({"hpo": keys | section}))
        self._have_tables()
        created = self.start_command("-m", "parallel_hpo", "run", str(config), "--create").finish()
        assert created.code == 0, created.stderr
        return created.stdout.strip()

    def start_command(self, *command: str) -> RealSweep:
        """Start the interpreter with these words, or a fork that is like it."""
        if self.launcher == (sys.executable,) and self._commands is not None and can_be_forked(self.env):
            self.process = self._commands.python(
                *command, folder=self.folder, environment=self.env, before=self.before, starts=self.starts
            )
        else:
            assert self.before is None
            self.process = self._new_interpreter(command)
        return self

    def _have_tables(self) -> None:
        """Have the directory of somebody who has had sweeps: the server takes long to make its tables."""
        is_usual = self.directory == self.folder / "sweeps" and not self.directory.exists()
        if is_usual and not self.is_first and self.env.get("PARALLEL_HPO_BACKEND") == "local":
            databases.make_directory(self.directory)

    def beside(self) -> RealSweep:
        """Return another launch, to be started in this one's folder and environment."""
        return RealSweep(self.folder, self.env, self._commands)

    def _new_interpreter(self, command: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.launcher, *command],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str, code: int = 0) -> str:
        """Call a command beside the sweep, and return what it prints on stdout (on stderr where it fails)."""
        assert self._commands is not None
        place = ("--directory", str(self.directory))
        done = self._commands.call(*words, *place, folder=self.folder, environment=self.env)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def ask_json(self, *words: str) -> Any:
        return json.loads(self.ask(*words, "--json"))

    def entries(self, event: str = "enter") -> list[Entry]:
        """Return what the mains have written so far."""
        if not self.journal.exists():
            return []
        *whole, _ = self.journal.read_text().split("\n")  # the last one may be half written
        lines = [json.loads(line) for line in whole]
        known = ("event", "run_id", "attempt", "slot", "pid")
        facts = [{key: line.pop(key) for key in set(line) - set(known)} for line in lines]
        made = [Entry(**line, facts=own) for line, own in zip(lines, facts, strict=True)]
        return [entry for entry in made if entry.event == event]

    def wait_for(self, number: int, event: str = "enter") -> list[Entry]:
        """Wait until the mains have written so many lines of this kind."""
        self.wait_until(lambda: len(self.entries(event)) >= number, f"{number} × {event}")
        return self.entries(event)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process is not None
            assert time.monotonic() < deadline, f"never came: {what}"
            if self.process.poll() is not None and not condition():
                raise AssertionError(f"ended before {what}: {self.process.communicate()[1]}")
            time.sleep(0.01)

    def comes(self, condition: Callable[[], object], *, within_s: float) -> bool:
        """Whether it comes to this within so long."""
        deadline = time.monotonic() + within_s
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)
        return bool(condition())

    def printed(self, text: str) -> int:
        """Return how often the workers have printed this text so far."""
        return sum(log.read_text().count(text) for log in self.directory.glob("*/worker-*/output.log"))

    def read_until(self, words: str) -> str:
        """Wait for a line on stderr that has these words, and return it; what came before is passed over."""
        assert self.process is not None
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return line
        raise AssertionError(f"ended before it said {words!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def finish(self) -> Ended:
        """Wait for the command's end; where it came by itself, ledger and server must say the same."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        code = self.process.wait()
        if code >= 0 and not self.unlike:
            found = disagreements(self.directory, retries=self.retries, own_words=self.ends_its_runs)
            assert list(found) == [], stderr
        paths = list(self.directory.glob("*/summary.json"))
        summary = json.loads(paths[0].read_text()) if paths else None
        return Ended(code, stdout, stderr, summary)

    def runs_on_the_server(self) -> dict[str, databases.ServerRun]:
        """Return each run, by its id, as the sweep's server has it now."""
        return databases.runs_in(self.directory / "server.db")

    def tree(self) -> list[psutil.Process]:
        """Return all processes of the sweep, the command's own first."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def process_named(self, words: str) -> psutil.Process:
        """Return the sweep's only process with these words in its command line, the first started."""
        found = [process for process in self.tree() if words in _command_line(process)]
        return min(found, key=lambda process: (process.create_time(), process.pid))


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it has just ended


@contextmanager
def ending(sweep: RealSweep) -> Iterator[RealSweep]:
    """Kill a sweep at the end if it still runs."""
    yield sweep
    if sweep.process is not None:
        if sweep.process.poll() is None:
            sweep.process.kill()
        sweep.process.communicate()


@pytest.fixture
def sweep(tmp_path: Path, clean_env: dict[str, str], commands: CommandLine) -> Iterator[RealSweep]:
    """A sweep to be started; killed at the test's end if it still runs."""
    with ending(RealSweep(tmp_path, clean_env, commands)) as made:
        yield made


@dataclass(frozen=True)
class PerformedRuns:
    """A sweep that is over, at which several tests look."""

    sweep: RealSweep
    ended: Ended


@pytest.fixture(scope="module")
def new_sweep(
    tmp_path_factory: pytest.TempPathFactory, commands: CommandLine
) -> Iterator[Callable[[], RealSweep]]:
    """Makes the sweeps at which several of a file's tests look."""
    with ExitStack() as stack:

        def make() -> RealSweep:
            folder = tmp_path_factory.mktemp("sweep")
            environment = stack.enter_context(clean_env_in(folder / "home"))
            return stack.enter_context(ending(RealSweep(folder, environment, commands)))

        yield make


@pytest.fixture
def temporary(sweep: RealSweep) -> Iterator[Path]:
    """The sweep's temporary folder; its name is short, as a socket in it needs."""
    folder = Path(tempfile.mkdtemp(prefix="left-"))
    sweep.with_helpers().env["TMPDIR"] = str(folder)
    yield folder
    shutil.rmtree(folder)


def outcomes(summary: Any) -> list[str]:
    """Return the outcome of each run of a summary."""
    return [run["outcome"] for run in summary["runs"]]
