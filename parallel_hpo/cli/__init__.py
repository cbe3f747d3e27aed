"""The command line `parallel-hpo`: options in, exit codes out.

Output for programs goes to stdout, everything else to stderr. Commands import slow modules in functions, so
that `--help` and `--version` are fast.
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import typer

gc.set_threshold(50_000)  # of 700: collections took a tenth of a command's time, and found hardly anything

from parallel_hpo.cli.app import app  # noqa: E402 - most of the objects are its imports'


def main() -> None:
    """Run the command line; the arguments after `--` belong to the target."""
    _escape_unencodable(sys.stdout)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    command()(args=words[:end], obj=tuple(words[end + 1 :]), prog_name="parallel-hpo")


@cache
def command() -> Callable[..., Any]:
    """Return the command that Typer builds from all signatures; it takes about 20 ms."""
    return typer.main.get_command(app)


def _escape_unencodable(stdout: object) -> None:
    """Write characters missing in the encoding as escapes, as stderr does by default."""
    if isinstance(stdout, io.TextIOWrapper) and stdout.errors == "strict":
        stdout.reconfigure(errors="backslashreplace")
