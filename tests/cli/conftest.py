from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import parallel_hpo

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path, clean_env: dict[str, str]) -> Command:
    """The real command line, called in a folder of its own; keywords are environment variables."""
    environment = clean_env | {"PYTHONPATH": str(Path(parallel_hpo.__file__).parents[1])}

    def call(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "parallel_hpo", *words],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call
