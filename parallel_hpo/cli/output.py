"""Where the command line's words go: results to stdout, errors to stderr with an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from parallel_hpo.errors import ExitCode, ParallelHPOError


def print_for_machines(text: str) -> None:
    """Print on stdout, as `on_stdout` says; who has closed it wants no word of it."""
    if sys.stdout is not None:
        with on_stdout():
            print(text, flush=True)


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
    """Print on stderr, if it can be written."""
    if sys.stderr is None:  # closed: `print` would take stdout, which is for machines
        return
    try:
        print(text, file=sys.stderr, flush=True)
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
