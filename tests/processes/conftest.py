"""Real sweeps in real processes, as a user starts them from a terminal."""

from __future__ import annotations

import json
import shutil
import signal
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

from tests.commands import MODULE, Started, call_command, start_python
from tests.conftest import QUIET, clean_env_in, make_clean_env
from tests.contract.serving import serving
from tests.processes.consistency import disagreements, rows

MAINS: Final = Path(__file__).with_name("mains.py")
RANDOM: Final = {
    "method": "random",
    "metric": {"name": "loss"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}
DEADLINE_S: Final = 120.0
"""Far beyond the duration of any sweep here, so that only a hang reaches it."""
GONE_WITHIN_S: Final = 30.0
"""The same for processes that end with others."""


def grid(**values: list[Any]) -> dict[str, Any]:
    """Return a sweep configuration of a grid over these parameters."""
    parameters = {name: {"values": each} for name, each in values.items()}
    return {"method": "grid", "metric": {"name": "loss"}, "parameters": parameters}


@dataclass(frozen=True)
class Entry:
    """A line of the journal that the mains write."""

    run_id: str
    attempt: int
    slot: int
    pid: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class ServerRun:
    """A run in the server's database; `exit_code` is None where the run never reported one."""

    state: str
    exit_code: int | None


@dataclass(frozen=True)
class Ended:
    """How a sweep's command ended."""

    code: int
    stdout: str
    stderr: str
    summary: Any


class RealSweep:
    """A folder with a configuration, and the `parallel-hpo run` that was started in it last."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.directory = folder / "sweeps"
        self.journal = folder / "journal.jsonl"
        self.env = env | {"JOURNAL": str(self.journal), "PARALLEL_HPO_BACKEND": "local"}
        self.process: Started | None = None
        self.launcher: tuple[str, ...] = ()
        """Words before the command, such as `nohup`."""
        self.own_session = False
        """Whether the command leads a session and a process group, as in a terminal."""
        self.retries = 1
        self.ends_its_runs = False
        """Whether `main` may end its W&B run itself, and then end otherwise."""
        self.unlike = ""
        """Why ledger and server may differ at the end; usually ''."""
        self.ended: Ended
        """How the command ended that finished last."""

    def start(
        self,
        main: str,
        *,
        mains: Path = MAINS,
        sweep: dict[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
        **section: Any,
    ) -> RealSweep:
        """Start a sweep with these keys in the `hpo` section; `main` is a function of the file `mains`."""
        self.retries = max(self.retries, section.get("retries", 1))
        config = self.configure(sweep_configuration=sweep or RANDOM, **{"workers": 2, **section})
        return self.run("run", config, f"{mains}:{main}", "--json", *arguments)

    def configure(self, **section: Any) -> str:
        """Write `config.json` with these keys in the `hpo` section; return its path."""
        config = self.folder / "config.json"
        keys = {"directory": str(self.directory), "sweep_configuration": RANDOM} | section
        config.write_text(json.dumps({"hpo": keys}))
        return str(config)

    def create(self, **section: Any) -> str:
        """Create a sweep by `--create`; return its id."""
        created = self.run("run", self.configure(**section), "--create").finish()
        assert created.code == 0, created.stderr
        return created.stdout.strip()

    def run(self, *words: str) -> RealSweep:
        """Start `parallel-hpo` with these words."""
        return self.python(*MODULE, *words)

    def python(self, *words: str) -> RealSweep:
        """Start an interpreter with these words."""
        self.process = start_python(
            *words,
            folder=self.folder,
            environment=self.env,
            launcher=self.launcher,
            own_session=self.own_session,
        )
        return self

    def beside(self) -> RealSweep:
        """Return another launch for the same folder and environment."""
        return RealSweep(self.folder, self.env)

    def rerun(self, run: str) -> Ended:
        """Run one of its runs again, from another folder than the one where it was started."""
        other = self.beside()
        other.folder = Path("/")
        other.unlike = "the run belongs to no sweep"
        return other.run("rerun", self.sweep_id, run, "--directory", str(self.directory)).finish()

    def ask(self, *words: str, code: int = 0) -> str:
        """Call a command on the sweep's directory; return its stdout (its stderr where it fails)."""
        place = ("--directory", str(self.directory))
        done = call_command(*words, *place, folder=self.folder, environment=self.env)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def ask_json(self, *words: str) -> Any:
        return json.loads(self.ask(*words, "--json"))

    def go(self) -> None:
        """Let the runs of `held` end."""
        (self.folder / "go").touch()

    def entries(self, event: str = "enter") -> list[Entry]:
        """Return what the mains have written so far."""
        if not self.journal.exists():
            return []
        *whole, _ = self.journal.read_text().split("\n")  # the last one may be incomplete
        lines = [facts for line in whole if (facts := json.loads(line)).pop("event") == event]
        known = ("run_id", "attempt", "slot", "pid")
        return [Entry(**{name: facts.pop(name) for name in known}, facts=facts) for facts in lines]

    def wait_for(self, number: int, event: str = "enter") -> list[Entry]:
        """Wait until the mains have written this many lines of this kind."""
        self.wait_until(lambda: len(self.entries(event)) >= number, f"{number} × {event}")
        return self.entries(event)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        assert self.process is not None
        process = self.process
        assert comes(lambda: condition() or process.poll() is not None), f"never came: {what}"
        if not condition():
            raise AssertionError(f"ended before {what}: {process.communicate()[1]}")

    def printed(self, text: str) -> int:
        """Return how often the workers have printed this text so far."""
        return sum(log.read_text().count(text) for log in self.directory.glob("*/worker-*/output.log"))

    def read_until(self, words: str) -> str:
        """Wait for a line on stderr with these words, and return it; earlier lines are skipped."""
        assert self.process is not None
        for line in self.process.stderr:
            if words in line:
                return line
        raise AssertionError(f"ended before it said {words!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def finish(self) -> Ended:
        """Wait for the command's end; unless it was killed, ledger and server must agree."""
        assert self.process is not None
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        code = self.process.returncode
        if code >= 0 and not self.unlike:
            found = disagreements(self.directory, retries=self.retries, own_words=self.ends_its_runs)
            assert list(found) == [], stderr
        paths = list(self.directory.glob("*/summary.json"))
        self.ended = Ended(code, stdout, stderr, json.loads(paths[0].read_text()) if paths else None)
        return self.ended

    def finish_all(self, number: int) -> Ended:
        """Wait for the command's end; it must be complete, with this many runs, all finished."""
        ended = self.finish()
        assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * number), ended.stderr
        return ended

    def kill(self) -> None:
        """Kill the session with SIGKILL, and wait until all of its processes have ended."""
        assert self.process is not None
        processes = self.tree()
        self.process.kill()
        self.process.communicate()
        expect_gone(processes)

    @property
    def sweep_id(self) -> str:
        (ledger,) = self.directory.glob("*/ledger.db")
        return ledger.parent.name

    def server_rows(self, query: str, *values: Any) -> list[Any]:
        """Return what a query finds in the sweep server's database."""
        return rows(self.directory / "server.db", query, *values)

    def runs_on_the_server(self) -> dict[str, ServerRun]:
        """Return each run in the server's database by its id."""
        found = self.server_rows("SELECT name, state, exitcode FROM runs")
        return {name: ServerRun(state, code) for name, state, code in found}

    def tree(self) -> list[psutil.Process]:
        """Return all processes of the sweep, the session first."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def process_named(self, words: str) -> psutil.Process:
        """Return the sweep's first process with these words in its command line."""
        found = [process for process in self.tree() if words in command_line(process)]
        return min(found, key=lambda process: (process.create_time(), process.pid))


def comes(condition: Callable[[], object]) -> bool:
    """Return whether the condition becomes true in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it has just ended


def expect_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    assert not alive


def outcomes(summary: Any) -> list[str]:
    """Return the outcome of each run of a summary."""
    return [run["outcome"] for run in summary["runs"]]


@contextmanager
def sweep_in(folder: Path) -> Iterator[RealSweep]:
    """A sweep in this folder, in an environment of its own; killed at the end if it still runs."""
    with clean_env_in(folder / "home") as environment:
        yield (sweep := RealSweep(folder, environment))
        if sweep.process is not None:
            sweep.process.kill()
            sweep.process.communicate()


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[RealSweep]:
    with sweep_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def new_sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RealSweep]]:
    """Make sweeps that several tests of a file share."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(sweep_in(tmp_path_factory.mktemp("sweep")))


@pytest.fixture
def temporary(sweep: RealSweep) -> Iterator[Path]:
    """The sweep's temporary folder; its name is short, as a socket in it needs.

    Its clients collect facts about the machine as by default, in processes of their own.
    """
    folder = Path(tempfile.mkdtemp(prefix="left-"))
    sweep.env["TMPDIR"] = str(folder)
    for name in QUIET:
        sweep.env.pop(name, None)
    yield folder
    shutil.rmtree(folder)


def with_own_python(sweep: RealSweep) -> RealSweep:
    """Let programs and shells of a sweep find this interpreter as `python`."""
    sweep.env["PATH"] = f"{Path(sys.executable).parent}:{sweep.env['PATH']}"
    return sweep


@pytest.fixture
def standalone(sweep: RealSweep) -> Iterator[dict[str, str]]:
    """The variables that direct a client to a standalone server."""
    folder = sweep.folder / "server"
    folder.mkdir()
    with serving(folder, make_clean_env(folder / "home")) as server:
        yield {name: server.client_env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}


def expect_exact_on_two_machines(sweep: RealSweep, **engine: Any) -> None:
    """Perform a sweep on an engine's two machines, with one worker each; each run must be run once."""
    sweep.start("held", count=4, workers=1, machines=engine)
    sweep.wait_for(2)  # before it the machine that is there first could perform them all
    sweep.go()
    ended = sweep.finish_all(4)
    machines = ended.summary["machines"]
    assert (len(machines), sum(machine["runs"] for machine in machines)) == (2, 4)
    assert len({entry.run_id for entry in sweep.entries()}) == len(sweep.entries()) == 4
