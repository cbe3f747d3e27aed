from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commanding import CommandLine

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(commands: CommandLine, tmp_path: Path, clean_env: dict[str, str]) -> Command:
    """Call the command line in a folder of its own; keywords are environment variables."""

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return commands.call(*words, folder=tmp_path, environment=clean_env | variables)

    return call
