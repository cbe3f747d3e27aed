"""The command line, `parallel-hpo`: flags in, exit codes out; all else is done by the rooms below.

Machine output goes to stdout, everything for people to stderr. Commands import
what they need when they are called, so that `--help` and `--version` are quick.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import typer

from parallel_hpo.cli.app import app


def main() -> None:
    """Run the command line; what stands after `--` belongs to the target."""
    _bear_any_text(sys.stdout)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    command()(args=words[:end], obj=tuple(words[end + 1 :]), prog_name="parallel-hpo")


@cache
def command() -> Callable[..., Any]:
    """Return what Typer makes of all commands' signatures, which takes it some 20 ms."""
    return typer.main.get_command(app)


def _bear_any_text(stdout: object) -> None:
    """Have what its encoding lacks be written as escapes, as stderr does by itself."""
    if isinstance(stdout, io.TextIOWrapper) and stdout.errors == "strict":
        stdout.reconfigure(errors="backslashreplace")
