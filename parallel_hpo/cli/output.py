"""Output of commands: results on stdout or into a file, everything else on stderr, and their exit codes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import typer

from parallel_hpo.core.errors import ExitCode, ParallelHPOError, UsageError
from parallel_hpo.core.values import visible, visible_on_one_line

if TYPE_CHECKING:
    from parallel_hpo.core.notices import Notice, Observer, SweepOver

STDOUT: Final = 1


def print_for_machines(text: str) -> None:
    """Print on stdout, like `on_stdout`; without a stdout do nothing.

    A terminal shows control characters as visible text; a program gets the text as it is.
    """
    if sys.stdout is not None:
        with on_stdout():
            print(visible(text) if sys.stdout.isatty() else text, flush=True)


def write_for_machines(content: bytes) -> None:
    """Write bytes to stdout, like `on_stdout`."""
    with on_stdout():
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


@contextmanager
def on_stdout() -> Iterator[None]:
    """Let the block write to stdout; ignore a reader that has closed its end.

    ParallelHPOError if stdout can't be written: its disk is full, or it is closed.
    """
    if sys.stdout is None:
        raise ParallelHPOError("stdout can't be written: it is closed")
    try:
        yield
    except OSError as error:
        # Python flushes stdout once more at its exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise ParallelHPOError(f"stdout can't be written: {error.strerror}") from None


def print_for_people(text: str) -> None:
    """Print on stderr, if it can be written, with control characters made visible."""
    if sys.stderr is None:  # closed: `print` would take stdout, which is for machines
        return
    try:
        print(visible(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def warn(error: ParallelHPOError) -> None:
    """Print an error as a warning on stderr; the command continues."""
    print_for_people(f"warning: {error}")


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn an error of this package into a line on stderr and its exit code."""
    try:
        yield
    except ParallelHPOError as error:
        print_for_people(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNAL_BASE + signal.SIGINT) from None


def is_stdout(file: Path) -> bool:
    """Return whether this is stdout: `-`, or the file that stdout already writes to."""
    with suppress(OSError):
        return str(file) == "-" or os.path.samestat(file.stat(), os.fstat(STDOUT))
    return False


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a draft's path; replace `file` by the draft when the block ends, so that it is never partial.

    A device or a pipe is written directly. UsageError if it can't be written.
    """
    is_special = os.path.exists(file) and not os.path.isfile(file)  # noqa: PTH110, PTH113 - never raise
    # A link stays one; that of a pipe in /dev/fd leads to no path.
    target = Path(os.path.realpath(file))
    draft = file if is_special else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield draft
        if not is_special:
            draft.replace(target)
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror}; name another file by -o") from None
    finally:
        if not is_special:
            with suppress(OSError):
                draft.unlink()


UNLIMITED_WIDTH: Final = 100_000
"""Width in cells that fits any table."""
GAP: Final = 1
"""Cells between two columns."""


def show_table(rows: list[dict[str, Any]], *, dropped_first: Sequence[str] = ()) -> None:
    """Print rows of the same keys as a table on stdout, without its empty columns.

    A row is one line. Without `dropped_first` the table is as wide as needed. With it, a table that is too
    wide for the terminal loses these columns, in this order, and stderr names them.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    names = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    cells = {name: [_cell(row[name]) for row in rows] for name in names}
    width = _terminal_width() if dropped_first else UNLIMITED_WIDTH
    left_out = _columns_to_leave_out(cells, dropped_first, width)
    shown = {name: column for name, column in cells.items() if name not in left_out}
    headings = (Column(Text(visible_on_one_line(name)), no_wrap=True) for name in shown)
    table = Table(*headings, box=None, pad_edge=False)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    with on_stdout():
        Console(width=width).print(table)
    if left_out:
        print_for_people(f"not shown: {', '.join(left_out)}; a wider terminal or --json has them")


def _columns_to_leave_out(
    cells: dict[str, list[str]], dropped_first: Sequence[str], width: int
) -> Collection[str]:
    """Return as many of the columns `dropped_first` as must go for the rest to fit."""
    from rich.cells import cell_len

    needed = {name: GAP + max(map(cell_len, (name, *column))) for name, column in cells.items()}
    left_out: list[str] = []
    for name in dropped_first:
        if sum(needed.values()) - GAP <= width:
            break
        if needed.pop(name, 0):
            left_out.append(name)
    return left_out


def _terminal_width() -> int:
    """Return the width of stdout's terminal in cells; UNLIMITED_WIDTH without a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return UNLIMITED_WIDTH
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or UNLIMITED_WIDTH
    except (OSError, ValueError):  # no descriptor
        return UNLIMITED_WIDTH


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return visible_on_one_line(text)


SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _OverObserver:
    """An observer that passes notices on, after it has reported the sweep's end."""

    observer: Observer
    note_over: Callable[[SweepOver], None]
    shows_memory: bool

    def __call__(self, notice: Notice) -> None:
        """Take a notice."""
        from parallel_hpo.core.notices import SweepOver

        if isinstance(notice, SweepOver):
            self.note_over(notice)
        self.observer(notice)


class LateSignals:
    """Keeps signals that arrive after a sweep's end from changing its exit code.

        before ─▶ sweep (supervisor handles signals) ─▶ SweepOver ─▶ printing ─▶ the process's end
        KeyboardInterrupt                                second SIGINT: exit      ignored

    The supervisor restores the signal handlers after its cleanup; no signal is lost in between.
    """

    def __init__(self) -> None:
        self._exit_code: int | None = None
        self._received = False

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        over = self._exit_code is not None and kind is None
        for number, before in self._before.items():
            # Ignored, because the interpreter removes its handlers before it has ended.
            signal.signal(number, signal.SIG_IGN if over else before)

    def watching(self, observer: Observer) -> Observer:
        """Return an observer that passes notices to `observer` and learns when the sweep has ended."""
        from parallel_hpo.core.notices import shows_memory

        return _OverObserver(observer, self._note_over, shows_memory(observer))

    def _note_over(self, notice: SweepOver) -> None:
        self._exit_code = notice.exit_code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._exit_code is None:
            before = self._before[signal.Signals(number)]
            signal.signal(number, before)
            signal.raise_signal(number)
        elif self._received:
            os._exit(self._exit_code)  # the second signal doesn't wait for output
        self._received = True
