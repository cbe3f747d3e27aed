"""Nodes: which machines get one, the thread that starts them, and their processes."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from parallel_hpo.cluster.base import (
    COORDINATOR_STDERR,
    ClusterEngine,
    ClusterMachine,
    MachineNames,
    NodeCommand,
    NodeTaskEnd,
    open_file,
)
from parallel_hpo.cluster.node_process import NodeExit, NodeProcess, NodeStateUnknownError
from parallel_hpo.cluster.nodes import (
    MAX_FAILURES,
    NodeEnded,
    NodeManager,
    NodeReport,
    NodeStates,
    NoMachinesLeft,
    after_end,
    after_start,
    due,
    none_left_reason,
)
from parallel_hpo.core.errors import BackendError, ExitCode
from parallel_hpo.core.notices import Message
from tests.cluster.nodes import DEADLINE_S, GRACE_S, NotedEngine
from tests.processes.conftest import comes


def test_machines_on_one_host_have_different_names_and_keep_them() -> None:
    names = MachineNames()
    first, second = ClusterMachine("gpu", "a"), ClusterMachine("gpu-2", "b")
    other, new = ClusterMachine("cpu", "c"), ClusterMachine("gpu", "new")
    assert names.name([("a", "gpu"), ("b", "gpu"), ("c", "cpu")]) == (other, first, second)
    assert names.name([("b", "gpu")]) == (second,)
    assert names.name([("b", "gpu"), ("new", "gpu")]) == (new, second)


GPU1 = ClusterMachine("gpu1", "tcp://gpu1")


def end(code: int | None, error: str = "") -> NodeTaskEnd:
    return NodeTaskEnd(GPU1, returned=code is not None, exit_code=code, error=error)


def failing(times: int, *, each_s: float = 1.0) -> NodeStates:
    """Return the states after `times` failures in a row, each after `each_s` seconds."""
    places: NodeStates = {}
    for _ in range(times):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(1, "no room"), each_s)
    return places


def test_each_machine_gets_one_node_up_to_the_maximum_number() -> None:
    begun, machines = after_start({}, "gpu1", 0.0), ["gpu1", "gpu2", "gpu3"]
    assert due({}, machines, 0.0, most=None) == machines
    assert due(begun, machines, 0.0, most=None) == ["gpu2", "gpu3"]
    assert due({}, machines, 0.0, most=2) == ["gpu1", "gpu2"]
    assert due(begun, machines, 0.0, most=2) == ["gpu2"]


def test_a_machine_whose_node_failed_comes_after_other_machines() -> None:
    assert due(failing(1), ["gpu1", "gpu2"], 100.0, most=1) == ["gpu2"]


@pytest.mark.parametrize("how", [end(None, "lost"), end(0), end(75), end(-9)])
def test_a_machine_whose_node_has_ended_gets_another_one_within_seconds(how: NodeTaskEnd) -> None:
    places = after_end(after_start({}, "gpu1", 0.0), "gpu1", how, 100.0)
    assert due(places, ["gpu1"], 100.5, most=None) == []
    assert due(places, ["gpu1"], 102.0, most=None) == ["gpu1"]


def test_the_restart_delay_of_nodes_that_end_at_once_grows_to_at_most_15_seconds() -> None:
    places: NodeStates = {}
    for _ in range(20):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(0), 0.0)
    assert (due(places, ["gpu1"], 14.0, most=None), due(places, ["gpu1"], 15.0, most=None)) == ([], ["gpu1"])


def test_a_machine_is_given_up_after_consecutive_failures_and_the_reason_is_kept() -> None:
    assert not failing(MAX_FAILURES - 1)["gpu1"].given_up
    assert not failing(10, each_s=3600.0)["gpu1"].given_up, "those that had worked for long do not add up"
    places = failing(MAX_FAILURES)
    assert due(places, ["gpu1"], 1e9, most=None) == []
    assert none_left_reason(places, ["gpu1"]) == "gpu1: no room"
    assert none_left_reason(places, ["gpu1", "gpu2"]) == ""
    assert none_left_reason(after_start(places, "gpu2", 0.0), ["gpu1"]) == ""
    assert none_left_reason({}, []) == ""


Told = queue.Queue[NodeReport]


@contextmanager
def manager_of(engine: ClusterEngine, told: Told) -> Iterator[NodeManager]:
    seconds = iter(range(1000))
    nodes = NodeManager(
        lambda: engine, told.put, clock=lambda: float(next(seconds)), most=None, look_every_s=0.001
    )
    nodes.open().result(DEADLINE_S)
    try:
        yield nodes
    finally:
        nodes.stop_within(DEADLINE_S)


def begin(nodes: NodeManager) -> None:
    nodes.begin(lambda machine, token: NodeCommand(arguments=(machine.name, token), grace_s=1.0))


def have_started(nodes: NodeManager, engine: NotedEngine, number: int = 1) -> None:
    """Wait until so many nodes were started."""
    while len(engine.started) < number:
        nodes.own_address().result(DEADLINE_S)


def test_an_ended_node_is_reported_by_its_token_and_another_is_started() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        assert (nodes.which, nodes.own_address().result(DEADLINE_S)) == ("the machines of Noted", "10.0.0.1")
        begin(nodes)
        have_started(nodes, engine)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=-9, error="killed"))
        ended = told.get(timeout=DEADLINE_S)
        have_started(nodes, engine, 2)
    (_, first), (_, second) = engine.started[:2]
    assert ended == NodeEnded(first.arguments[1], "gpu1", returned=True, reason="killed")
    assert first.arguments[1] != second.arguments[1]
    assert engine.calls == ["stop", "close"]


def test_an_unusable_machine_is_reported_and_no_machine_is_left_until_another_comes() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        begin(nodes)
        have_started(nodes, engine)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=ExitCode.USAGE, error="no torch"))
        reports = [told.get(timeout=DEADLINE_S) for _ in range(3)]
        assert len(engine.started) == 1
        engine.found.append(ClusterMachine("gpu2", "tcp://gpu2"))
        assert told.get(timeout=DEADLINE_S) == NoMachinesLeft("")
    assert reports[0] == Message("machine gpu1 gets no node any more: no torch", warning=True)
    assert reports[2] == NoMachinesLeft("gpu1: no torch")


def test_a_failing_engine_is_retried_and_reported_once() -> None:
    engine, told = NotedEngine([GPU1], fails=True), Told()
    with manager_of(engine, told) as nodes:
        begin(nodes)
        message = told.get(timeout=DEADLINE_S)
        for _ in range(3):
            nodes.own_address().result(DEADLINE_S)
        engine.fails = False
        have_started(nodes, engine)
    assert isinstance(message, Message)
    assert "its scheduler is away" in message.text
    assert told.empty()


def test_an_unreachable_engine_raises_at_the_caller() -> None:
    def unreachable() -> ClusterEngine:
        raise BackendError("no scheduler")

    nodes = NodeManager(unreachable, lambda report: None, clock=lambda: 0.0, most=None)
    with pytest.raises(BackendError, match="no scheduler"):
        nodes.open().result(DEADLINE_S)
    nodes.stop_within(DEADLINE_S)


def test_an_engine_that_never_answers_blocks_no_caller() -> None:
    answers = threading.Event()

    class Deaf(NotedEngine):
        def stop(self) -> None:
            answers.wait(DEADLINE_S)

    nodes = NodeManager(lambda: Deaf([GPU1]), lambda report: None, clock=lambda: 0.0, most=None)
    nodes.open().result(DEADLINE_S)
    nodes.stop_within(0.01)
    nodes.stop_within(DEADLINE_S)
    assert not answers.is_set()
    answers.set()


def sleeps(file: Path) -> str:
    """A program that writes its number into the file, and sleeps."""
    return f"import os, time; open({str(file)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"


def python(code: str, *, grace_s: float = GRACE_S, **variables: str) -> NodeCommand:
    return NodeCommand(arguments=("-c", code), variables=variables, grace_s=grace_s)


def has_begun(file: Path) -> psutil.Process:
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
        f"command = NodeCommand(arguments=('-c', {sleeps(file)!r}), grace_s={GRACE_S})\n"
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
    code = f"import signal, sys; {listens}; {sleeps(file)}"
    node = NodeProcess(python(code, grace_s=grace_s))
    has_begun(file)
    node.stop()
    assert node.wait().exit_code == exit_code


def test_processes_that_a_node_leaves_are_killed_before_it_returns(file: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-c', {sleeps(file)!r}], start_new_session=True)\n"
        f"while not os.path.exists({str(file)!r}): pass"
    )
    assert NodeProcess(python(code)).wait() == NodeExit(0)
    assert not psutil.pid_exists(int(file.read_text()))


def test_output_of_the_launcher_is_not_taken_for_the_guards_report() -> None:
    words = r"""printf '%s\n' 5 null '{"step": 0}' 'Job 7 begins'; exec "$@" """
    assert NodeProcess(python("pass"), launcher=("bash", "-c", words, "srun")).wait() == NodeExit(0)


def test_a_signal_to_a_whole_job_is_handled_by_the_node_alone(file: Path) -> None:
    """A batch system sends it to every process: the node reacts, its guard waits."""
    code = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); "
    node = NodeProcess(python(code + sleeps(file)))
    os.killpg(has_begun(file).pid and os.getpgid(int(file.read_text())), signal.SIGUSR1)
    assert node.wait().exit_code == 75


def test_a_node_dies_with_its_killed_guard_and_its_end_is_unknown(file: Path) -> None:
    node = NodeProcess(python(sleeps(file)))
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
    first, second = (NodeProcess(python(sleeps(tmp_path / name))) for name in "ab")
    for name in "ab":
        has_begun(tmp_path / name)
    first.stop()
    waited = threading.Thread(target=first.wait)
    waited.start()
    waited.join(DEADLINE_S)
    assert not waited.is_alive()
    second.stop()
    second.wait()
