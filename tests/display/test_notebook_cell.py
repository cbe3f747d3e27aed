from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from parallel_hpo.core.notices import OutputLine
from parallel_hpo.core.types import Slot
from parallel_hpo.display.notebook import NotebookCell, find_publisher
from tests.display.test_notebook_view import OPENED, began, over
from tests.results import RESULT


class Notebook:
    """Records what is published, with the signature of `publish_display_data`."""

    def __init__(self) -> None:
        self.published: list[tuple[dict[str, str], str, bool]] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, data: dict[str, str], *, transient: dict[str, str], update: bool) -> None:
        self.published.append((data, transient["display_id"], update))
        self.threads.append(threading.current_thread())

    @property
    def last(self) -> str:
        return self.published[-1][0]["text/plain"]


def test_the_cells_own_thread_creates_the_output() -> None:
    notebook = Notebook()
    with NotebookCell(notebook) as cell:
        cell(OPENED)
    assert notebook.threads[0] is threading.current_thread()
    assert [update for _, _, update in notebook.published] == [False, *[True] * (len(notebook.published) - 1)]
    assert len({place for _, place, _ in notebook.published}) == 1


def test_two_cells_have_different_outputs() -> None:
    notebook = Notebook()
    NotebookCell(notebook)
    NotebookCell(notebook)
    assert len({place for _, place, _ in notebook.published}) == 2


def test_it_shows_html_and_text() -> None:
    notebook = Notebook()
    with NotebookCell(notebook) as cell:
        cell(OPENED)
    assert set(notebook.published[-1][0]) == {"text/plain", "text/html"}


def test_the_result_is_shown_last() -> None:
    notebook = Notebook()
    with NotebookCell(notebook) as cell:
        for notice in (OPENED, began(1), over(1, 0.5)):
            cell(notice)
        cell.conclude(RESULT, go_on="start(main)")
    assert notebook.last.splitlines()[0] == "0 runs in 1.0 s: 0 finished"
    assert "ended: count reached" in notebook.last
    assert "resume with" not in notebook.last


def test_an_incomplete_sweep_shows_how_to_resume_it() -> None:
    notebook = Notebook()
    with NotebookCell(notebook) as cell:
        cell.conclude(replace(RESULT, exit_code=75), go_on="start(main)")
    assert notebook.last.endswith("resume with: start(main)")


def test_many_notices_cause_few_updates() -> None:
    notebook = Notebook()
    with NotebookCell(notebook, clock=lambda: 0.0) as cell:
        for _ in range(1000):
            cell(OutputLine(Slot(0), "step"))
            cell(began(1))
    assert len(notebook.published) < 10


def test_a_closed_notebook_is_no_error() -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel")

    with NotebookCell(gone) as cell:
        cell(OPENED)
        cell.conclude(RESULT)


def test_outside_a_notebook_there_is_no_publisher() -> None:
    assert find_publisher() is None


def test_control_characters_of_users_and_runs_are_visible() -> None:
    notebook = Notebook()
    with NotebookCell(notebook) as cell:
        cell(OPENED)
        cell(replace(began(1), parameters={"lr": "\x1b]0;owned\x07"}))
        cell.conclude(replace(RESULT, stop_reason="\x9b2J", exit_code=75), go_on="start \x1b[2J")
    shown = "".join("".join(data.values()) for data, _, _ in notebook.published)
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert r"ended: \x9b2J" in notebook.last
