from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.errors import BackendError, WorkerStartError
from parallel_hpo.supervisor.children import Nursery
from parallel_hpo.supervisor.errands import Errands
from parallel_hpo.supervisor.patience import in_thread
from parallel_hpo.worker.spec import Surroundings
from tests.supervisor.nursing import (
    DEADLINE_S,
    SLEEP,
    WITH_STRAY,
    is_gone,
    marked,
    opened_nursery,
    surroundings,
)

Run = Callable[..., Any]

SHORT_S: Final = 0.8
"""Long enough for a child to be born and say something."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with opened_nursery({**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}) as nursery:
        nursery.wait_until_ready()
        yield nursery


@pytest.fixture
def errands(nursery: Nursery, clean_env: dict[str, str]) -> Errands:
    def surround(own: Mapping[str, str]) -> Surroundings:
        return surroundings({**clean_env, **own})

    return Errands(nursery, surround)


@pytest.fixture
def evaluate(errands: Errands) -> Run:
    """Evaluate an expression in an errand."""

    def call(expression: str, **variables: str) -> Any:
        return errands.run("builtins:eval", (expression,), variables, DEADLINE_S)

    return call


@pytest.fixture
def execute(errands: Errands) -> Run:
    """Execute statements in an errand."""

    def call(source: str, limit_s: float = DEADLINE_S) -> Any:
        return errands.run("builtins:exec", (source,), {}, limit_s)

    return call


def test_an_errand_returns_what_its_function_returned(errands: Errands) -> None:
    assert errands.run("operator:add", (["a"], ["b"]), {}, DEADLINE_S) == ["a", "b"]


def test_an_errand_runs_in_a_process_of_its_own(evaluate: Run) -> None:
    first, second = (evaluate("__import__('os').getpid()") for _ in range(2))
    assert len({first, second, os.getpid()}) == 3


def test_an_errand_has_its_variables_and_no_others(evaluate: Run, clean_env: dict[str, str]) -> None:
    seen = evaluate("dict(__import__('os').environ)", WANDB_API_KEY="its own")
    assert seen == marked(clean_env) | {"WANDB_API_KEY": "its own"}


def test_an_errand_works_in_the_callers_folder(evaluate: Run) -> None:
    assert evaluate("__import__('os').getcwd()") == str(Path.cwd())


def test_an_errand_has_nothing_to_read_and_a_session_of_its_own(evaluate: Run) -> None:
    assert evaluate("__import__('sys').stdin.read()") == ""
    assert evaluate("__import__('os').getsid(0) == __import__('os').getpid()")


def test_an_errand_can_be_interrupted_by_sigint_whoever_started_us(evaluate: Run) -> None:
    handler = "__import__('signal').getsignal(2).__name__"
    assert evaluate(handler) == "default_int_handler"


def test_an_errand_that_raises_is_told_in_its_words(errands: Errands) -> None:
    with pytest.raises(BackendError, match=r"^ValueError: invalid literal for int"):
        errands.run("builtins:int", ("x",), {}, DEADLINE_S)


def test_an_errand_without_its_module_is_told_so(errands: Errands) -> None:
    with pytest.raises(BackendError, match=r"^ModuleNotFoundError: No module named 'no_such_module'"):
        errands.run("no_such_module:call", (), {}, DEADLINE_S)


def test_an_errand_that_leaves_is_told_so(execute: Run) -> None:
    with pytest.raises(BackendError, match=r"^SystemExit: 3"):
        execute("raise SystemExit(3)")


def test_an_errand_that_dies_is_told_with_what_it_printed(execute: Run) -> None:
    with pytest.raises(BackendError, match="died; it said: out of memory, sorry"):
        execute("import os; print('out of memory,\\n  sorry', flush=True); os._exit(9)")


def test_an_errand_that_dies_silently_is_told_too(execute: Run) -> None:
    with pytest.raises(BackendError, match="died; it said: nothing"):
        execute("import os; os._exit(9)")


def test_an_errand_may_print_more_than_a_pipe_holds(evaluate: Run) -> None:
    assert evaluate("print('x' * 1_000_000) or 42") == 42


def test_an_answer_that_cannot_travel_is_told_as_such(evaluate: Run) -> None:
    with pytest.raises(BackendError, match=r"died; it said: .*pickle"):
        evaluate("lambda: 1")


def test_an_errand_that_takes_too_long_is_killed_and_told_with_its_words(execute: Run) -> None:
    with pytest.raises(
        BackendError, match=rf"^no answer within {SHORT_S:g} s; it said: still here \d+"
    ) as late:
        execute("import os, time; print('still here', os.getpid(), flush=True); time.sleep(600)", SHORT_S)
    expect_gone(int(str(late.value).split()[-1]))


def test_what_an_errand_starts_does_not_outlive_it(execute: Run, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    execute(WITH_STRAY.replace("print(", f"open({str(note)!r}, 'w').write(").replace(", flush=True", ""))
    expect_gone(int(note.read_text()))


def test_an_errand_that_closes_its_streams_is_waited_for_without_a_busy_loop(execute: Run) -> None:
    before_s = time.thread_time()
    with pytest.raises(BackendError, match="no answer within"):
        execute("import os, time; os.close(1); os.close(2); time.sleep(600)", SHORT_S)
    assert time.thread_time() - before_s < SHORT_S / 2


def test_closing_the_nursery_ends_an_errand_that_nobody_waits_for_any_more(
    clean_env: dict[str, str],
) -> None:
    with opened_nursery(clean_env) as nursery:
        errands = Errands(nursery, lambda own: surroundings({**clean_env, **own}))
        lost = in_thread(lambda: errands.run("builtins:exec", (SLEEP,), {}, DEADLINE_S))
    with pytest.raises((BackendError, WorkerStartError)):
        lost.result(DEADLINE_S)


def expect_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)
