from __future__ import annotations

import threading
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from parallel_hpo.core.notices import Message, Notice, SweepOpened
from parallel_hpo.core.types import Outcome
from parallel_hpo.display.notebook import (
    SHOWN_ENDS,
    SHOWN_RUNNING,
    SHOWN_WARNINGS,
    STARTING,
    NotebookCell,
    NotebookView,
    advance_view,
    as_html,
    as_text,
    find_publisher,
)
from tests.display.conftest import HOSTILE, OPENED, SEEN, began, output, over
from tests.results import RESULT


class Tags(HTMLParser):
    """Records the tags of a page, and checks that they are nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def view_of(*notices: Notice, opened: SweepOpened = OPENED) -> NotebookView:
    view = NotebookView()
    for notice in (opened, *notices):
        view = advance_view(view, notice, 0.0)
    return view


def lines(*notices: Notice) -> list[str]:
    return as_text(view_of(*notices), None, 10.0).splitlines()


def test_progress_and_sweep_are_shown_above_running_and_ended_runs() -> None:
    assert as_text(NotebookView(), None, 0.0) == "opening the sweep"
    shown = lines(began(1), over(1, 0.5), began(2, attempt=2))
    assert shown[0].startswith("1/4 runs · 1 running · 0 failed · 30.0 s left")
    assert shown[1:3] == ["sweep local/digits/s1 (local): http://x/s1", "best: run r1  loss=0.5  x=1"]
    assert [row.split() for row in shown[-2:]] == [
        ["w0", "r2", "running", "again", "(2)", "x=2"],
        ["w0", "r1", "finished", "0.5", "1.5", "s", "x=1"],
    ]


def test_running_runs_beyond_the_limit_are_only_counted() -> None:
    shown = lines(*(began(number, number) for number in range(SHOWN_RUNNING + 8)))
    assert sum("running" in line.split() and line.startswith("w") for line in shown) == SHOWN_RUNNING
    assert shown[-1] == "and 8 more running"


def test_the_best_run_is_shown_with_its_parameters_and_a_failed_run_with_its_reason() -> None:
    runs = [(began(n), over(n, value)) for n, value in ((1, 0.5), (2, 0.25), (3, 0.75))]
    failed = (began(4), over(4, 0.125, Outcome.FAILED, reason="ValueError: no"))
    shown = lines(*(notice for run in (*runs, failed) for notice in run))
    assert "best: run r2  loss=0.25  x=2" in shown
    assert any("failed: ValueError: no" in line for line in shown)


def test_a_retried_attempt_does_not_count_as_an_ended_run() -> None:
    view = view_of(began(1), over(1, None, Outcome.CRASHED, again=True))
    assert (view.ended, view.counts.running) == ((), {})


def test_only_the_last_ended_runs_and_warnings_are_shown() -> None:
    ends = [notice for number in range(50) for notice in (began(number), over(number, float(number)))]
    shown = lines(*ends, Message("fine"), *(Message(f"no {number}", warning=True) for number in range(50)))
    assert [line.split()[1] for line in shown if "finished" in line] == [
        f"r{49 - number}" for number in range(SHOWN_ENDS)
    ]
    assert shown[-SHOWN_WARNINGS:] == [f"warning: no {number}" for number in range(50 - SHOWN_WARNINGS, 50)]
    assert not any("fine" in line for line in shown)
    assert "best: run r0  loss=0  x=0" in shown


def test_html_is_well_formed_and_has_the_content_of_the_text() -> None:
    page = as_html(view_of(began(1), over(1, 0.5), began(2)), None, 10.0)
    for word in ("1/4 runs", "r1", "r2", "x=2", "finished", '<progress max="4" value="1" '):
        assert word in page
    assert '<a href="http://x/s1" ' in page
    tags = Tags(page)
    assert tags.open == []
    assert tags.seen.count("tr") == 3


def test_the_best_value_so_far_is_drawn_as_a_step_curve() -> None:
    values = (0.5, 0.75, 0.25, None)
    page = as_html(view_of(*(over(number, value) for number, value in enumerate(values))), None, 10.0)
    assert 'aria-label="best loss=0.25 so far, after 4 ended runs"' in page
    assert 'd="M72.0 8.0H340.0V76.0H474.0"' in page  # down at the third of four runs
    assert "<path" not in as_html(view_of(over(1, 0.5)), None, 10.0)


def test_text_of_runs_is_escaped_and_a_url_with_another_scheme_is_not_linked() -> None:
    assert "<a" not in as_html(view_of(opened=replace(OPENED, url="javascript:alert(1)")), None, 0.0)
    evil = "<script>alert('&')</script>"
    failed = over(1, 1.0, Outcome.FAILED, reason=evil)
    page = as_html(
        view_of(began(1, name=evil), failed, began(2, name=evil), Message(evil, warning=True)), None, 10.0
    )
    assert "<script" not in page
    assert set(Tags(page).seen) <= {"a", "div", "b", "progress", "table", "tr", "th", "td"}


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


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def test_the_cells_thread_creates_one_output_and_later_updates_reuse_it(notebook: Notebook) -> None:
    with NotebookCell(notebook) as cell:
        cell(OPENED)
    assert notebook.threads[0] is threading.current_thread()
    assert [update for _, _, update in notebook.published] == [False, *[True] * (len(notebook.published) - 1)]
    assert set(notebook.published[-1][0]) == {"text/plain", "text/html"}
    assert len({place for _, place, _ in notebook.published}) == 1
    NotebookCell(notebook)
    assert len({place for _, place, _ in notebook.published}) == 2


@pytest.mark.parametrize(("exit_code", "is_resumable"), [(0, False), (75, True)])
def test_the_result_is_shown_last_with_how_to_resume_an_incomplete_sweep(
    notebook: Notebook, exit_code: int, is_resumable: bool
) -> None:
    with NotebookCell(notebook) as cell:
        for notice in (OPENED, began(1), over(1, 0.5)):
            cell(notice)
        cell.conclude(replace(RESULT, exit_code=exit_code), go_on="start(main)")
    assert notebook.last.splitlines()[0] == "0 runs in 1.0 s: 0 finished"
    assert "ended: count reached" in notebook.last
    assert notebook.last.endswith("resume with: start(main)") is is_resumable


def test_a_cell_renders_itself_only_in_other_cells(notebook: Notebook) -> None:
    number = 3
    with NotebookCell(notebook, find_cell=lambda: number) as cell:
        assert cell.html() is None
        number = 4
        assert STARTING in (cell.html() or "")


def test_many_notices_cause_few_updates(notebook: Notebook) -> None:
    with NotebookCell(notebook, clock=lambda: 0.0) as cell:
        for _ in range(1000):
            cell(output("step"))
            cell(began(1))
    assert len(notebook.published) < 10


def test_a_closed_or_missing_notebook_is_not_an_error() -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel")

    with NotebookCell(gone) as cell:
        cell(OPENED)
        cell.conclude(RESULT)
    assert find_publisher() is None


def test_control_characters_of_users_and_runs_are_visible(notebook: Notebook) -> None:
    with NotebookCell(notebook) as cell:
        cell(OPENED)
        cell(replace(began(1), parameters={"lr": HOSTILE}))
        cell.conclude(replace(RESULT, stop_reason=HOSTILE, exit_code=75), go_on=HOSTILE)
    shown = "".join("".join(data.values()) for data, _, _ in notebook.published)
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert f"ended: {SEEN}" in notebook.last
    assert f"resume with: {SEEN}" in notebook.last
