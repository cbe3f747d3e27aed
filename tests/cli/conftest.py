from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.commands import Done, call_command, start_command

IN_PROCESSES: Final = ("open", "server")
"""Commands that keep a socket or a browser open until their process ends."""
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path, clean_env: dict[str, str]) -> Command:
    """Return a function that calls the command line in the test's folder; keywords are variables."""

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        place: dict[str, Any] = {"folder": tmp_path, "environment": clean_env | variables}
        if not words or words[0] not in IN_PROCESSES:
            return call_command(*words, **place)
        process = start_command(*words, **place)
        stdout, stderr = process.communicate(timeout=60)
        return Done(words, process.returncode, stdout, stderr)

    return call
