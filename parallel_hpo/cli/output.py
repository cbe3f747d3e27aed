"""Where the command line's words go: results to stdout or a file, errors to stderr with an exit code.

Of a file that a command is asked for by `-o` all is there, or what was there before.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import typer

from parallel_hpo.core.errors import ExitCode, ParallelHPOError, UsageError
from parallel_hpo.core.visible import visible

STDOUT: Final = 1


def print_for_machines(text: str) -> None:
    """Print on stdout, as `on_stdout` says; who has closed it wants no word of it.

    On a terminal control characters are made visible; a program gets the text as it is.
    """
    if sys.stdout is not None:
        with on_stdout():
            print(visible(text) if sys.stdout.isatty() else text, flush=True)


def write_for_machines(content: bytes) -> None:
    """Write to stdout, as it says, too."""
    with on_stdout():
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


@contextmanager
def on_stdout() -> Iterator[None]:
    """Let the block write there; a reader that has gone is no error of ours.

    ParallelHPOError where it can't be written, as where its disk is full, or it is closed.
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
    """Say on stderr what is wrong with a part; the rest goes on."""
    print_for_people(f"warning: {error}")


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn an error that was raised on purpose into its words on stderr and its exit code."""
    try:
        yield
    except ParallelHPOError as error:
        print_for_people(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNAL_BASE + signal.SIGINT) from None


def is_stdout(file: Path) -> bool:
    """Whether it is where stdout goes by itself, as `-` is by custom: it is no file then, to be replaced."""
    with suppress(OSError):
        return str(file) == "-" or os.path.samestat(file.stat(), os.fstat(STDOUT))
    return False


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield the path to write to; what it holds takes the file's place when the block is left.

    A device or a pipe is written itself. UsageError where it can't be written.
    """
    is_special = os.path.exists(file) and not os.path.isfile(file)  # noqa: PTH110, PTH113 - never raise
    # A link stays one; that of a pipe in /dev/fd leads to no path.
    place = Path(os.path.realpath(file))
    draft = file if is_special else place.with_name(f".{place.name}.{os.getpid()}")
    try:
        yield draft
        if not is_special:
            draft.replace(place)
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror}; name another file by -o") from None
    finally:
        if not is_special:
            with suppress(OSError):
                draft.unlink()
