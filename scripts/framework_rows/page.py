"""Reads and writes docs/frameworks.md, one row at a time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.framework_rows.environments import ROOT
from scripts.framework_rows.evidence import TableRun
from scripts.framework_rows.rows import ROWS, RUNS, WORKERS, Row
from scripts.framework_rows.stage import Alone

REASON_WIDTH: Final = 120
_NOTE: Final = textwrap.TextWrapper(
    118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
)
FILE: Final = ROOT / "docs" / "frameworks.md"
_HEAD: Final = f"""\
# Frameworks, tried for real

    scripts/frameworks                   # all of them
    scripts/frameworks sklearn ddp       # some of them

`scripts/frameworks` writes this page; don't edit it by hand. Each row is a small script in the usual style of
that framework ([`scripts/framework_mains`](../scripts/framework_mains)), with real work on small data, in an
environment of its own. It runs once alone, and then in two sweeps of {RUNS} runs on {WORKERS} workers with
the embedded server, without and with `preload` (programs: one sweep). In each sweep one worker is killed with
SIGKILL during its first run.

- *finished*: runs of the two sweeps that finished, including the second attempts of killed runs.
- *metric*: runs whose metric on the server, read by `wandb.Api()`, is the one that the script wrote to a
  file; the summary's `best` is the best of these files.
- *log*: runs whose console output is on the server.
- *left behind*: processes, and files in `/dev/shm` and the temporary folder, after the sweep. Files that the
  script also leaves alone don't count, nor what it leaves in the temporary folder when it is killed alone:
  wandb's folders for media and artifacts, and multiprocessing's own.
- *alone*: duration of `python script.py` without a sweep, imports included, in seconds.
- The other times are pairs, without and with `preload`, in seconds: from the command's start until the first
  run begins; the median run; from the SIGKILL until that run begins again.
"""
_COLUMNS: Final = (
    *("framework", "finished", "metric", "log", "left behind"),
    *("alone", "begins after", "a run", "back after"),
)
_TRIED_COLUMNS: Final = ("what was tried", "script", "versions", "when and where")

Line = str
"""A line of a table, by the title in its first cell."""


def write(row: Row, cells: list[str], tried: list[str], path: Path = FILE) -> None:
    """Replace one row's cells in the page."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    results = _lines(text, _COLUMNS) | {row.title: _line([row.title, *cells])}
    facts = _lines(text, _TRIED_COLUMNS) | {row.title: _line([row.title, *tried])}
    parts = [_HEAD, _table(_COLUMNS, results), _know(), "## What was tried\n", _table(_TRIED_COLUMNS, facts)]
    path.write_text("\n".join(parts), encoding="utf-8")


def cells(alone: Alone, without: TableRun, with_: TableRun | None) -> list[str]:
    """Return the cells of a tested row."""
    sweeps = [without] if with_ is None else [without, with_]
    runs = RUNS * len(sweeps)
    reasons = sorted({textwrap.shorten(reason, REASON_WIDTH) for seen in sweeps for reason in seen.reasons})
    finished = f"{sum(seen.finished for seen in sweeps)} of {runs}"
    equal = f"{sum(seen.equal for seen in sweeps)} of {runs}"
    return [
        ": ".join([finished, *reasons]),
        equal + ("" if all(seen.best_is_right for seen in sweeps) else ", `best` is wrong"),
        f"{sum(seen.said for seen in sweeps)} of {runs}",
        ", ".join(f"`{kind}`" for kind in sorted({kind for seen in sweeps for kind in seen.left}))
        or "nothing",
        f"{alone.took_s:.1f}",
        " / ".join(_seconds(seen.begins_s) for seen in sweeps),
        " / ".join(_seconds(seen.run_s) for seen in sweeps),
        " / ".join(_seconds(seen.back_s) for seen in sweeps),
    ]


def untried(reason: str) -> list[str]:
    """Return the cells of a row that could not be tested here."""
    return [f"untried: {reason}", *[""] * (len(_COLUMNS) - 2)]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _know() -> str:
    notes = [_NOTE.fill(f"- {row.title}: {row.know}") + "\n" for row in ROWS if row.know]
    return "## What to know\n\n" + "".join(notes)


def _lines(text: str, columns: tuple[str, ...]) -> dict[str, Line]:
    """Return the rows of the table with these columns."""
    _, _, rest = text.partition(_line(list(columns)))
    table = rest.partition("\n\n")[0].splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in table if line.startswith("| ")}


def _table(columns: tuple[str, ...], lines: Mapping[str, Line]) -> str:
    body = [lines[row.title] for row in ROWS if row.title in lines]
    return "\n".join([_line(list(columns)), "|" + "---|" * len(columns), *body, ""])


def _line(cells: list[str]) -> Line:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
