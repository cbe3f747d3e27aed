"""scripts/frameworks without its frameworks: the page, what counts as left behind, and its scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.framework_rows import page
from scripts.framework_rows.environments import PACKAGES
from scripts.framework_rows.evidence import TableRun
from scripts.framework_rows.leftovers import kind
from scripts.framework_rows.rows import BEGUN, ROWS, RUNS, Row
from scripts.framework_rows.stage import MAINS, Alone

GOOD = TableRun(
    finished=RUNS,
    reasons=[],
    equal=RUNS,
    best_is_right=True,
    said=RUNS,
    left=[],
    begins_s=4.0,
    run_s=1.25,
    back_s=0.1,
)
ALONE = Alone(took_s=3.0, left=[])
SKLEARN, XGBOOST, *_ = ROWS


def _row(text: str, row: Row) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {row.title} |")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_an_environment_and_a_script_that_says_when_it_trains_and_writes_its_metric(
    row: Row,
) -> None:
    script = (MAINS / row.script).read_text()
    assert row.environment in PACKAGES
    assert BEGUN in script and f'"{row.metric}": ' in script and "results" in script


def test_a_row_that_is_tried_again_leaves_the_others_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "frameworks.md"
    for row, finished in ((XGBOOST, 5), (SKLEARN, 6), (XGBOOST, 4)):
        cells = page.cells(ALONE, replace(GOOD, finished=finished), None)
        page.write(row, cells, [row.script, "1.0", "today"], file)
    text = file.read_text()
    assert [line.split(" | ")[1] for line in _row(text, SKLEARN)] == ["6 of 6", "sklearn_forest.py"]
    assert [line.split(" | ")[1] for line in _row(text, XGBOOST)] == ["4 of 6", "xgboost_digits.py"]


def test_a_row_says_both_sweeps_times_and_what_went_wrong_in_either() -> None:
    bad = replace(
        GOOD, finished=5, reasons=["exit 3"], best_is_right=False, left=["/dev/shm/sem.mp-*"], back_s=None
    )
    assert page.cells(ALONE, GOOD, bad) == [
        "11 of 12: exit 3",
        "12 of 12, `best` is wrong",
        "12 of 12",
        "`/dev/shm/sem.mp-*`",
        "3.0",
        "4.0 / 4.0",
        "1.2 / 1.2",
        "0.1 / –",
    ]


@pytest.mark.parametrize(
    "change",
    [{"finished": 5}, {"equal": 5}, {"said": 5}, {"best_is_right": False}, {"left": ["x"]}, {"back_s": None}],
    ids=lambda change: next(iter(change)),
)
def test_a_sweep_is_whole_only_if_nothing_is_amiss(change: dict[str, object]) -> None:
    assert GOOD.whole
    assert not replace(GOOD, **change).whole  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("sem.loky-123-a_b3c4d5", "sem.loky-*-*"),
        ("sem.mp-0a1b2c3d", "sem.mp-*"),
        ("torch_123_456_7", "torch_*_*_*"),
        ("tmpab3_d5fgwandb-media", "tmp*wandb-media"),
        ("wandb-26804-26808-4061125046", "wandb-*-*-*"),
        ("torchinductor_root", "torchinductor_root"),
    ],
)
def test_files_of_one_kind_have_one_name(name: str, known: str) -> None:
    assert kind(name) == known
