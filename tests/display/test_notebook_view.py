from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Final

from parallel_hpo.core.notices import Message, Notice, RunBegan, RunOver, SweepOpened
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display.notebook import (
    SHOWN_ENDS,
    SHOWN_RUNNING,
    SHOWN_WARNINGS,
    NotebookView,
    advance_view,
    as_html,
    as_text,
)

OPENED: Final = SweepOpened(
    path=SweepPath("local", "p", SweepId("s1")),
    url="http://here/s1",
    backend="local",
    count=20,
    workers=2,
    shares=(10, 10),
    folder="/sweeps/s1",
    metric="loss",
    goal="minimize",
)


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


def began(number: int, slot: int = 0, *, attempt: int = 1, name: str = "x") -> RunBegan:
    return RunBegan(Slot(slot), RunId(f"r{number}"), attempt, {name: number})


def over(
    number: int,
    value: float | None = None,
    outcome: Outcome = Outcome.FINISHED,
    *,
    reason: str = "",
    again: bool = False,
) -> RunOver:
    return RunOver(Slot(0), RunId(f"r{number}"), 1, outcome, reason, value, 1.5, again)


def picture_of(*notices: Notice) -> NotebookView:
    view = NotebookView()
    for notice in (OPENED, *notices):
        view = advance_view(view, notice, 0.0)
    return view


def lines(*notices: Notice) -> list[str]:
    return as_text(picture_of(*notices), None, 10.0).splitlines()


def test_a_view_without_a_sweep_says_so() -> None:
    assert as_text(NotebookView(), None, 0.0) == "opening the sweep"


def test_progress_and_sweep_are_the_first_lines() -> None:
    shown = lines(began(1), over(1, 0.5), began(2))
    assert shown[0].startswith("1/20 runs · 1 running · 0 failed · best loss=0.5")
    assert shown[1] == "sweep local/p/s1 (local): http://here/s1"


def test_running_runs_come_before_ended_ones() -> None:
    rows = [line.split() for line in lines(began(1), over(1, 0.5), began(2, attempt=2))[-2:]]
    assert rows == [
        ["w0", "r2", "running", "again", "(2)", "x=2"],
        ["w0", "r1", "finished", "0.5", "1.5", "s", "x=1"],
    ]


def test_many_workers_are_partly_counted() -> None:
    shown = lines(*(began(number, slot=number) for number in range(SHOWN_RUNNING + 8)))
    assert (
        sum("running" in line.split() for line in shown if line[0] == "w" and line[1].isdigit())
        == SHOWN_RUNNING
    )
    assert shown[-1] == "and 8 more running"


def test_the_best_run_has_its_parameters() -> None:
    shown = lines(began(1), over(1, 0.5), began(2), over(2, 0.25), began(3), over(3, 0.75))
    assert "best: run r2  loss=0.25  x=2" in shown


def test_a_failed_run_has_a_reason_and_is_never_the_best() -> None:
    shown = lines(began(1), over(1, 0.5, Outcome.FAILED, reason="ValueError: no"))
    assert "failed: ValueError: no" in shown[-1]
    assert not any(line.startswith("best") for line in shown)


def test_a_retried_attempt_is_no_ended_run() -> None:
    view = picture_of(began(1), over(1, None, Outcome.CRASHED, again=True))
    assert (view.ended, view.running) == ((), {})


def test_only_the_last_ended_runs_and_warnings_are_kept() -> None:
    ends = [notice for number in range(50) for notice in (began(number), over(number, float(number)))]
    view = picture_of(*ends, *(Message(f"warning {number}", warning=True) for number in range(50)))
    assert [run.over.run_id for run in view.ended] == [f"r{49 - number}" for number in range(SHOWN_ENDS)]
    assert len(view.warnings) == SHOWN_WARNINGS
    assert view.best is not None
    assert view.best.over.run_id == "r0"


def test_warnings_are_shown_but_other_messages_are_not() -> None:
    shown = lines(Message("fine"), Message("the disk is full", warning=True))
    assert shown[-1] == "warning: the disk is full"
    assert not any("fine" in line for line in shown)


def test_html_and_text_have_the_same_content() -> None:
    view = picture_of(began(1), over(1, 0.5), began(2))
    page = as_html(view, None, 10.0)
    for word in (
        "1/20 runs",
        "http://here/s1",
        "r1",
        "r2",
        "x=2",
        "finished",
        '<progress max="20" value="1">',
    ):
        assert word in page
    tags = Tags(page)
    assert tags.open == []
    assert tags.seen.count("tr") == 3


def test_the_sweeps_address_is_a_link() -> None:
    assert '<a href="http://here/s1" ' in as_html(picture_of(), None, 0.0)


def test_an_address_with_another_scheme_is_no_link() -> None:
    view = advance_view(NotebookView(), replace(OPENED, url="javascript:alert(1)"), 0.0)
    assert "<a" not in as_html(view, None, 0.0)


def test_text_of_runs_is_escaped() -> None:
    evil = "<script>alert('&')</script>"
    view = picture_of(
        began(1, name=evil),
        over(1, 1.0, Outcome.FAILED, reason=evil),
        began(2, name=evil),
        Message(evil, warning=True),
    )
    page = as_html(view, None, 10.0)
    assert "<script" not in page
    assert set(Tags(page).seen) <= {"a", "div", "b", "progress", "table", "tr", "th", "td"}
