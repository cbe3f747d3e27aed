"""The death matrix: every row of docs/deaths.md with real runs in real workers.

`python -m tests.processes.test_death_matrix` writes the table of that page.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import Ended, RealSweep, grid

DEATHS: Final = Path(__file__).with_name("deaths.py")
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "deaths.md"
COMMAND: Final = "python -m tests.processes.test_death_matrix"
"""Writes the table of the page."""


@dataclass(frozen=True)
class Row:
    """A way to die: the function of deaths.py, in words, and what it counts as."""

    death: str
    words: str
    outcome: str
    reason: str
    state: str
    exit_code: int | None
    attempts: int = 1

    @property
    def line(self) -> str:
        """The row as the document has it."""
        reason = f"`{self.reason}`" if self.reason else ""
        code = "none" if self.exit_code is None else self.exit_code
        return f"| {self.words} | {self.outcome} | {reason} | {self.state}, {code} | {self.attempts} |"


def finished(death: str, words: str) -> Row:
    return Row(death, words, "finished", "", "finished", 0)


def failed(death: str, words: str, reason: str, exit_code: int = 1) -> Row:
    return Row(death, words, "failed", reason, "killed" if exit_code == 255 else "failed", exit_code)


def crashed(death: str, words: str, reason: str) -> Row:
    return Row(death, words, "crashed", reason, "crashed", None, attempts=2)


WORKERS_DEATHS: Final = (
    crashed("sigkill", "SIGKILL, the kernel's out-of-memory killer among its senders", "SIGKILL"),
    crashed("sigterm", "SIGTERM to the worker", "SIGTERM"),
    crashed("sigsegv", "SIGSEGV", "SIGSEGV"),
    crashed("sigabrt", "SIGABRT", "SIGABRT"),
    finished("sigstop", "SIGSTOP for longer than a heartbeat, then SIGCONT"),
    crashed("os_exit_0", "`os._exit(0)`", "exit 0"),
    crashed("os_exit_3", "`os._exit(3)`", "exit 3"),
    crashed(
        "closes_descriptors",
        "closes all file descriptors above 2",
        "exit 72 (main closed file descriptors of the worker)",
    ),
    crashed(
        "memory_limit", "takes more than `memory_limit_mb`", "memory limit 500 MB: its process tree held … MB"
    ),
)
OWN_ENDINGS: Final = (
    finished("sys_exit_none", "`sys.exit()`"),
    finished("sys_exit_0", "`sys.exit(0)`"),
    failed("sys_exit_1", "`sys.exit(1)`", "exit 1"),
    failed("sys_exit_text", '`sys.exit("text")`', "exit 1: text"),
    failed(
        "sys_exit_unprintable", "`sys.exit` with what can't be printed", "exit 1: (its text can't be printed)"
    ),
    failed("system_exit", "`raise SystemExit(4)`", "exit 4", 4),
    failed("exception", "an exception", "ValueError: no good"),
    failed("unpicklable", "an exception that can't be pickled", "Unpicklable: not to be pickled"),
    failed("unprintable", "an exception that can't be printed", "Unprintable: (its text can't be printed)"),
    failed("keyboard_interrupt", "`raise KeyboardInterrupt`, though nobody asked", "KeyboardInterrupt", 255),
    failed("memory_error", "`MemoryError`", "MemoryError"),
    finished("finishes", "calls `wandb.finish()` itself"),
    finished("initialises_twice", "calls `wandb.init()` twice"),
    finished("initialises_anew", "calls `wandb.init()` again after `wandb.finish()`"),
    failed("never_initialises", "never calls `wandb.init()`", "main never called wandb.init()"),
)
LEFTOVERS: Final = (
    finished("replaces_handlers", "replaces signal handlers (they are put back after the run)"),
    finished("leaves_threads", "leaves threads running, daemons and others"),
    finished("fork_goes_on", "forks, and the child returns from `main` too (it ends there)"),
    finished("fork_fails", "forks, and the child raises (it ends there)"),
    finished("fork_lives", "forks, and leaves the child running (it is killed)"),
    finished("grandchild", "leaves a grandchild in a session of its own (it is killed)"),
    finished("changes_folder", "changes its working directory (it is changed back)"),
    finished("deletes_folder", "deletes its working directory"),
    failed("closes_streams", "closes `sys.stdout` and `sys.stderr`, and raises", "ValueError: unseen"),
    finished("prints_much", "prints 100 MB past `sys.stdout`"),
)
CLIENT_USAGES: Final = (
    finished("offline", 'calls `wandb.init(mode="offline")` (what it wrote is sent after the run)'),
    finished("offline_by_setup", '… by `wandb.setup(wandb.Settings(mode="offline"))`'),
    finished("offline_by_environment", "… by setting `WANDB_MODE`"),
    failed(
        "disabled",
        'calls `wandb.init(mode="disabled")`',
        "wandb was disabled in main: nothing of the run was recorded",
    ),
    failed("must_resume", 'calls `wandb.init(resume="must")`', "UsageError: …"),
    finished("other_place", "calls `wandb.init()` with another project, id, name or settings"),
    finished("logs_in", "calls `wandb.login(key=…)` with a key of its own"),
    finished("two_runs", "opens and finishes two runs after each other (they are one)"),
    finished("left_open", 'leaves a run open that was opened with `reinit="create_new"`'),
    Row("preempts", "calls `mark_preempting()` and leaves with 1, once", "finished", "", "finished", 0, 2),
    finished("tears_down", "calls `wandb.teardown()` (the worker is replaced)"),
    failed("own_agent", "calls `wandb.agent()`", "RuntimeError: wandb.agent() was called inside a run …"),
    failed("own_sweep", "calls `wandb.sweep()`", "CommError: input: a run of a sweep can't create sweeps: …"),
)
SPOILERS: Final = (
    crashed("kills_core", "kills its wandb-core", "exit 73 (its wandb-core was killed)"),
    crashed(
        "kills_core_late",
        "… while `wandb.teardown()` waits for it, which leaves by `sys.exit` then",
        "exit 73 (its wandb-core was killed)",
    ),
    finished("clears_environment", "calls `os.environ.clear()` (the variables are put back)"),
    finished(
        "changes_environment", "sets another `WANDB_API_KEY`, `WANDB_BASE_URL` and `WANDB_MODE` (so are they)"
    ),
    finished("no_temporary_folder", "sets `tempfile.tempdir` to no folder (so is it)"),
    finished("lowers_limits", "lowers `RLIMIT_NOFILE` and `RLIMIT_AS` (so are they, where that is allowed)"),
    finished("another_user", "finishes its run and calls `os.setuid()` (the worker is replaced)"),
    finished("patches_json", "patches `json` (the worker is replaced)"),
    finished("patches_threading", "patches `threading` (the same)"),
)
STALL: Final = "stalled: no log call and no output for 3 s"
STALLS: Final = (
    crashed("sleeps", "hangs in `time.sleep` (`stall_timeout_s`)", STALL),
    crashed("hangs_in_c", "hangs in C code that holds the interpreter's lock (`stall_timeout_s`)", STALL),
)
TIMEOUTS: Final = (
    failed("sleeps", "passes `run_timeout_s`, and leaves when asked", "run timeout 6 s"),
    Row("swallows", "… and swallows all exceptions", "failed", "run timeout 6 s; killed", "killed", None),
    Row("ignores_signals", "… and ignores signals", "failed", "run timeout 6 s; killed", "killed", None),
)
INTERRUPTS: Final = (
    Row("sleeps", "is asked to stop with the sweep, and leaves", "stopped", "interrupted", "killed", 255),
    Row("swallows", "… and swallows all exceptions", "stopped", "SIGINT; killed (SIGKILL)", "killed", None),
)


def begin(sweep: RealSweep, rows: Sequence[Row], **keys: Any) -> RealSweep:
    """Start a sweep in which one run dies in each of these ways."""
    ways = grid(death=[row.death for row in rows])
    keys |= {"failures": {"max_initial": None}, "restart": {"max_restarts": 100, "backoff_s": 0.05}}
    return sweep.start("die", mains=DEATHS, sweep=ways, **keys)


def expect(rows: Sequence[Row], ended: Ended, sweep: RealSweep) -> None:
    """Compare each run with its row."""
    server = sweep.runs_on_the_server()
    words = {row.death: row.words for row in rows}
    seen = {
        Row(
            run["parameters"]["death"],
            words[run["parameters"]["death"]],
            run["outcome"],
            in_short(run["reason"]),
            server[run["run_id"]].state,
            server[run["run_id"]].exit_code,
            run["attempts"],
        )
        for run in ended.summary["runs"]
    }
    assert seen == set(rows), ended.stderr
    assert ended.summary["lost"] == 0


def in_short(reason: str) -> str:
    """Return a reason without the parts that vary."""
    reason = re.sub(r"held \d+ MB", "held … MB", reason)
    reason = re.sub(r"^UsageError: .*", "UsageError: …", reason)
    return re.sub(r"(was called inside a run|can't create sweeps:) .*", r"\1 …", reason)


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        pytest.param(WORKERS_DEATHS, {"memory_limit_mb": 500}, id="workers' deaths"),
        pytest.param(OWN_ENDINGS, {}, id="own endings"),
        pytest.param(LEFTOVERS, {}, id="leftovers"),
        pytest.param(CLIENT_USAGES, {}, id="usages of wandb"),
        pytest.param(SPOILERS, {}, id="spoilers"),
        pytest.param(TIMEOUTS, {"run_timeout_s": 6, "grace_period_s": 1, "workers": 3}, id="timeouts"),
    ],
)
def test_each_way_to_die_has_the_outcome_of_its_row(
    sweep: RealSweep, rows: Sequence[Row], keys: dict[str, Any]
) -> None:
    expect(rows, begin(sweep, rows, **keys).finish(), sweep)


def test_the_stack_of_a_hanging_run_is_logged_before_it_is_killed(sweep: RealSweep) -> None:
    expect(STALLS, begin(sweep, STALLS, stall_timeout_s=3).finish(), sweep)
    assert sweep.printed(f'File "{DEATHS}", line')
    assert sweep.printed("in sleep\n") >= 2
    assert sweep.printed("in hang_in_c\n") >= 2


def test_a_run_that_is_asked_to_stop_counts_as_stopped_whatever_it_does(sweep: RealSweep) -> None:
    begin(sweep, INTERRUPTS, grace_period_s=1)
    sweep.wait_until(
        lambda: sweep.printed("inside sleeps") and sweep.printed("deaf from now on"), "both runs"
    )
    sweep.signal(signal.SIGINT)
    expect(INTERRUPTS, sweep.finish(), sweep)


def with_table(page: str) -> str:
    """Return the page with the rows of this file in its table."""
    lines = page.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|---")) + 1
    after = next(number for number in range(first, len(lines)) if not lines[number].startswith("| "))
    endings = (*WORKERS_DEATHS, *OWN_ENDINGS, *LEFTOVERS, *CLIENT_USAGES)
    rows = (*endings, *SPOILERS, *STALLS, *TIMEOUTS, *INTERRUPTS)
    return "\n".join([*lines[:first], *(row.line for row in rows), *lines[after:]]) + "\n"


def test_the_docs_page_contains_the_table_of_these_rows() -> None:
    assert DOCUMENT.read_text() == with_table(DOCUMENT.read_text()), f"run: {COMMAND}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
