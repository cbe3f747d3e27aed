"""A node, its guard, and their starter: each of them may end first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import pytest

from parallel_hpo.cluster.base import COORDINATOR_STDERR, NodeCommand, open_file
from parallel_hpo.cluster.node_process import NodeExit, NodeProcess, NodeStateUnknownError
from tests.cluster.nodes import DEADLINE_S, GRACE_S
from tests.processes.conftest import comes

SLEEPS: Final = "import os, time; open({file!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
IN_A_SESSION_OF_ITS_OWN: Final = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeps!r}], start_new_session=True)"
)


def python(code: str, *, grace_s: float = GRACE_S, **variables: str) -> NodeCommand:
    return NodeCommand(arguments=("-c", code), variables=variables, grace_s=grace_s)


def has_begun(file: Path) -> psutil.Process:
    """Wait for a process that writes its number into the file, and return it."""
    assert comes(lambda: file.exists() and file.read_text().endswith("\n"))
    return psutil.Process(int(file.read_text()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pid"


@pytest.fixture
def starter(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has started a node, as an engine's worker does."""
    code = (
        "from parallel_hpo.cluster.base import NodeCommand\n"
        "from parallel_hpo.cluster.node_process import NodeProcess\n"
        f"command = NodeCommand(arguments=('-c', {SLEEPS.format(file=str(file))!r}), grace_s={GRACE_S})\n"
        "NodeProcess(command).wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    yield process
    process.kill()
    process.wait()


def test_a_failed_node_leaves_its_exit_code_and_the_end_of_its_output() -> None:
    said = NodeProcess(python("import sys; print('x' * 9999); sys.exit('no such sweep')")).wait()
    assert said.exit_code == 1
    assert said.last_words.endswith("xxx\nno such sweep")
    assert len(said.last_words) <= 2000


def test_a_nodes_output_is_not_copied_to_the_coordinators_own_stderr(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w+") as terminal:
        for head, printed in ((open_file(terminal.fileno()), ""), ("elsewhere:1:2", "hello\n")):
            command = replace(python("print('hello')"), variables={COORDINATOR_STDERR: head})
            node = NodeProcess(command, stderr=terminal)
            assert node.wait().exit_code == 0
            assert (tmp_path / "terminal").read_text() == printed


def test_a_node_gets_the_machines_environment_and_the_commands_variables() -> None:
    there = os.environ | {"CUDA_VISIBLE_DEVICES": "3,5"}
    code = "import os; exit(os.environ['CUDA_VISIBLE_DEVICES'] + os.environ['KEY'] != '3,5k')"
    assert NodeProcess(python(code, KEY="k"), env=there).wait() == NodeExit(0)


def test_a_nodes_stdin_stays_open_while_its_guard_lives() -> None:
    code = "import select, sys; sys.exit(len(select.select([sys.stdin], [], [], 0.2)[0]))"
    assert NodeProcess(python(code)).wait() == NodeExit(0)


@pytest.mark.parametrize(
    ("listens", "exit_code"),
    [
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))", 75),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", -signal.SIGKILL),
    ],
    ids=["exits on SIGTERM", "is killed if it ignores SIGTERM"],
)
def test_a_stopped_node_may_exit_by_itself_and_is_killed_after_the_grace_time(
    file: Path, listens: str, exit_code: int
) -> None:
    grace_s = GRACE_S if exit_code == 75 else 0.1
    code = f"import signal, sys; {listens}; {SLEEPS.format(file=str(file))}"
    node = NodeProcess(python(code, grace_s=grace_s))
    has_begun(file)
    node.stop()
    assert node.wait().exit_code == exit_code


def test_processes_that_a_node_leaves_are_killed_before_it_returns(file: Path) -> None:
    sleeps = SLEEPS.format(file=str(file))
    code = IN_A_SESSION_OF_ITS_OWN.format(sleeps=sleeps) + f"\nwhile not os.path.exists({str(file)!r}): pass"
    assert NodeProcess(python("import os\n" + code)).wait() == NodeExit(0)
    assert not psutil.pid_exists(int(file.read_text()))


def test_output_of_the_launcher_is_not_taken_for_the_guards_report() -> None:
    words = r"""printf '%s\n' 5 null '{"step": 0}' 'Job 7 begins'; exec "$@" """
    assert NodeProcess(python("pass"), launcher=("bash", "-c", words, "srun")).wait() == NodeExit(0)


def test_a_signal_to_a_whole_job_is_handled_by_the_node_alone(file: Path) -> None:
    """A batch system sends it to every process: the node reacts, its guard waits."""
    code = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); "
    node = NodeProcess(python(code + SLEEPS.format(file=str(file))))
    os.killpg(has_begun(file).pid and os.getpgid(int(file.read_text())), signal.SIGUSR1)
    assert node.wait().exit_code == 75


def test_a_node_dies_with_its_killed_guard_and_its_end_is_unknown(file: Path) -> None:
    node = NodeProcess(python(SLEEPS.format(file=str(file))))
    child = has_begun(file)
    guard = child.parent()
    assert guard is not None
    guard.kill()
    with pytest.raises(NodeStateUnknownError, match="without its last report"):
        node.wait()
    assert comes(lambda: not child.is_running())


def test_a_node_ends_with_the_process_that_started_it(starter: subprocess.Popen[bytes], file: Path) -> None:
    child = has_begun(file)
    guard = child.parent()
    assert guard is not None
    starter.kill()
    assert comes(lambda: not child.is_running() and not guard.is_running())


def test_two_nodes_of_one_process_do_not_keep_each_other_alive(tmp_path: Path) -> None:
    """The first's pipe must not be open in the second's guard."""
    first, second = (NodeProcess(python(SLEEPS.format(file=str(tmp_path / name)))) for name in "ab")
    for name in "ab":
        has_begun(tmp_path / name)
    first.stop()
    waited = threading.Thread(target=first.wait)
    waited.start()
    waited.join(DEADLINE_S)
    assert not waited.is_alive()
    second.stop()
    second.wait()
