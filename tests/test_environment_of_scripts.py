"""Scripts that are started by any Python go on in the repository's environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts.environment import ROOT, VENV

SCRIPTS: Final = ("bench", "bench_search", "chaos", "cloud_check", "frameworks", "gpu_check")
STRANGER: Final = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.skipif(Path(sys.prefix) != VENV, reason="another environment than .venv tests")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_a_python_without_our_packages_runs_goes_on_where_they_are(script: str) -> None:
    command = [str(STRANGER), "-S", str(ROOT / "scripts" / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.split()[0]) == (0, "usage:"), done.stderr
