"""Runs scripts in the repository's .venv, which is created if it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
VENV: Final = ROOT / ".venv"


def enter_venv(*needed: str) -> None:
    """Restart the script in .venv, unless the packages that it needs are installed already.

    What is run must be named by its whole path: by that an interpreter finds its environment.
    """
    if all(map(find_spec, needed)) or Path(sys.prefix) == VENV:
        return
    subprocess.run(["bash", str(ROOT / "scripts" / "setup"), "dev"], check=True)
    python = str(VENV / "bin" / "python")
    os.execv(python, [python, *sys.argv])


def enter_own_venv(name: str, extras: str, *more: str) -> None:
    """Restart the script in an environment of its own, with the given extras and more packages."""
    venv = ROOT / name
    if Path(sys.prefix) == venv:
        return
    python = str(venv / "bin" / "python")
    subprocess.run(["bash", str(ROOT / "scripts" / "setup"), extras, name], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *more], check=True)
    os.execv(python, [python, *sys.argv])
