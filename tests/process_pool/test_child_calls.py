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
    is_gone,
    marked,
    opened_pool,
    surroundings,
    wait_until,
)

Run = Callable[..., Any]

SHORT_S: Final = 0.8


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
    return lambda expression, **variables: calls.run("builtins:eval", (expression,), variables, DEADLINE_S)


@pytest.fixture
def execute(calls: ChildCalls) -> Run:
    """Execute statements in a call that lasts long enough to begin and say something."""
    return lambda source: calls.run("builtins:exec", (source,), {}, SHORT_S)


def test_a_call_returns_its_functions_value_whatever_it_prints(calls: ChildCalls, evaluate: Run) -> None:
    assert calls.run("operator:add", (["a"], ["b"]), {}, DEADLINE_S) == ["a", "b"]
    assert evaluate("print('x' * 1_000_000) or 42") == 42  # more than a pipe holds


def test_each_call_has_its_own_process_session_and_variables(
    evaluate: Run, clean_env: dict[str, str]
) -> None:
    seen = evaluate("dict(__import__('os').environ)", WANDB_API_KEY="its own")
    assert seen == marked(clean_env) | {"WANDB_API_KEY": "its own"}
    assert evaluate("__import__('os').getcwd()") == str(Path.cwd())
    assert evaluate("__import__('sys').stdin.read()") == ""
    first, second = (evaluate("[__import__('os').getpid(), __import__('os').getsid(0)]") for _ in range(2))
    assert first[0] == first[1]
    assert len({first[0], second[0], os.getpid()}) == 3
    assert evaluate("__import__('signal').getsignal(2).__name__") == "default_int_handler"


@pytest.mark.parametrize(
    ("function", "argument", "words"),
    [
        ("builtins:int", "x", r"^ValueError: invalid literal for int"),
        ("no_such_module:call", "", r"^ModuleNotFoundError: No module named 'no_such_module'"),
        ("builtins:exec", "raise SystemExit(3)", r"^SystemExit: 3"),
        (
            "builtins:exec",
            "import os; print('out of memory,\\n  sorry', flush=True); os._exit(9)",
            "died before its answer; its output: out of memory, sorry",
        ),
        ("builtins:exec", "import os; os._exit(9)", "died before its answer; its output: nothing"),
        ("builtins:eval", "lambda: 1", r"died before its answer; its output: .*pickle"),
    ],
)
def test_a_call_that_fails_or_dies_raises_an_error_with_its_output(
    calls: ChildCalls, function: str, argument: str, words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        calls.run(function, (argument,), {}, DEADLINE_S)


def test_a_call_that_exceeds_its_timeout_is_killed_and_raises_with_its_output(execute: Run) -> None:
    words = rf"^no answer within {SHORT_S:g} s; its output: still here \d+"
    with pytest.raises(BackendError, match=words) as late:
        execute("import os, time; print('still here', os.getpid(), flush=True); time.sleep(600)")
    pid = int(str(late.value).split()[-1])
    wait_until(lambda: is_gone(pid))


def test_waiting_for_a_call_that_closes_its_streams_is_no_busy_loop(execute: Run) -> None:
    before_s = time.thread_time()
    with pytest.raises(BackendError, match="no answer within"):
        execute("import os, time; os.close(1); os.close(2); time.sleep(600)")
    assert time.thread_time() - before_s < SHORT_S / 2


def test_closing_the_pool_ends_a_call_that_is_still_running(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        calls = ChildCalls(pool, surroundings(clean_env))
        lost = in_thread(lambda: calls.run("builtins:exec", (SLEEP,), {}, DEADLINE_S))
    with pytest.raises((BackendError, WorkerStartError)):
        lost.result(DEADLINE_S)
