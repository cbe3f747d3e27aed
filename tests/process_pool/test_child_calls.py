from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import BackendError, WorkerStartError
from parallel_hpo.processes.pool import ChildCalls, ChildPool
from parallel_hpo.session.waiting import in_thread
from tests.process_pool.pooling import (
    DEADLINE_S,
    SLEEP,
    WITH_STRAY,
    is_gone,
    marked,
    opened_pool,
    surroundings,
)

Run = Callable[..., Any]

SHORT_S: Final = 0.8
"""Long enough for a child to begin and say something."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildPool]:
    with opened_pool({**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}) as pool:
        pool.wait_until_ready()
        yield pool


@pytest.fixture
def calls(pool: ChildPool, clean_env: dict[str, str]) -> ChildCalls:
    return ChildCalls(pool, surroundings(clean_env))


@pytest.fixture
def evaluate(calls: ChildCalls) -> Run:
    """Evaluate an expression in a call."""

    def call(expression: str, **variables: str) -> Any:
        return calls.run("builtins:eval", (expression,), variables, DEADLINE_S)

    return call


@pytest.fixture
def execute(calls: ChildCalls) -> Run:
    """Execute statements in a call."""

    def call(source: str, limit_s: float = DEADLINE_S) -> Any:
        return calls.run("builtins:exec", (source,), {}, limit_s)

    return call


def test_a_call_returns_what_its_function_returned(calls: ChildCalls) -> None:
    assert calls.run("operator:add", (["a"], ["b"]), {}, DEADLINE_S) == ["a", "b"]


def test_a_call_runs_in_a_process_of_its_own(evaluate: Run) -> None:
    first, second = (evaluate("__import__('os').getpid()") for _ in range(2))
    assert len({first, second, os.getpid()}) == 3


def test_a_call_has_its_variables_and_no_others(evaluate: Run, clean_env: dict[str, str]) -> None:
    seen = evaluate("dict(__import__('os').environ)", WANDB_API_KEY="its own")
    assert seen == marked(clean_env) | {"WANDB_API_KEY": "its own"}


def test_a_call_works_in_the_callers_folder(evaluate: Run) -> None:
    assert evaluate("__import__('os').getcwd()") == str(Path.cwd())


def test_a_call_has_nothing_to_read_and_a_session_of_its_own(evaluate: Run) -> None:
    assert evaluate("__import__('sys').stdin.read()") == ""
    assert evaluate("__import__('os').getsid(0) == __import__('os').getpid()")


def test_a_call_can_be_interrupted_by_sigint_whoever_started_us(evaluate: Run) -> None:
    handler = "__import__('signal').getsignal(2).__name__"
    assert evaluate(handler) == "default_int_handler"


def test_a_call_that_raises_is_told_in_its_words(calls: ChildCalls) -> None:
    with pytest.raises(BackendError, match=r"^ValueError: invalid literal for int"):
        calls.run("builtins:int", ("x",), {}, DEADLINE_S)


def test_a_call_without_its_module_is_told_so(calls: ChildCalls) -> None:
    with pytest.raises(BackendError, match=r"^ModuleNotFoundError: No module named 'no_such_module'"):
        calls.run("no_such_module:call", (), {}, DEADLINE_S)


def test_a_call_that_leaves_is_told_so(execute: Run) -> None:
    with pytest.raises(BackendError, match=r"^SystemExit: 3"):
        execute("raise SystemExit(3)")


def test_a_call_that_dies_is_told_with_what_it_printed(execute: Run) -> None:
    with pytest.raises(BackendError, match="died before its answer; its output: out of memory, sorry"):
        execute("import os; print('out of memory,\\n  sorry', flush=True); os._exit(9)")


def test_a_call_that_dies_silently_is_told_too(execute: Run) -> None:
    with pytest.raises(BackendError, match="died before its answer; its output: nothing"):
        execute("import os; os._exit(9)")


def test_a_call_may_print_more_than_a_pipe_holds(evaluate: Run) -> None:
    assert evaluate("print('x' * 1_000_000) or 42") == 42


def test_an_answer_that_cannot_travel_is_told_as_such(evaluate: Run) -> None:
    with pytest.raises(BackendError, match=r"died before its answer; its output: .*pickle"):
        evaluate("lambda: 1")


def test_a_call_that_takes_too_long_is_killed_and_told_with_its_words(execute: Run) -> None:
    with pytest.raises(
        BackendError, match=rf"^no answer within {SHORT_S:g} s; its output: still here \d+"
    ) as late:
        execute("import os, time; print('still here', os.getpid(), flush=True); time.sleep(600)", SHORT_S)
    expect_gone(int(str(late.value).split()[-1]))


def test_what_a_call_starts_does_not_outlive_it(execute: Run, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    execute(WITH_STRAY.replace("print(", f"open({str(note)!r}, 'w').write(").replace(", flush=True", ""))
    expect_gone(int(note.read_text()))


def test_a_call_that_closes_its_streams_is_waited_for_without_a_busy_loop(execute: Run) -> None:
    before_s = time.thread_time()
    with pytest.raises(BackendError, match="no answer within"):
        execute("import os, time; os.close(1); os.close(2); time.sleep(600)", SHORT_S)
    assert time.thread_time() - before_s < SHORT_S / 2


def test_closing_the_pool_ends_a_call_that_nobody_waits_for_any_more(
    clean_env: dict[str, str],
) -> None:
    with opened_pool(clean_env) as pool:
        calls = ChildCalls(pool, surroundings(clean_env))
        lost = in_thread(lambda: calls.run("builtins:exec", (SLEEP,), {}, DEADLINE_S))
    with pytest.raises((BackendError, WorkerStartError)):
        lost.result(DEADLINE_S)


def expect_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)
