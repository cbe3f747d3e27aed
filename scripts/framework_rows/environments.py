"""Virtual environments with frameworks, created once outside the repository and then reused."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_S: Final = 1800.0

PACKAGES: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    "trees": [["scikit-learn", "xgboost-cpu", "lightgbm", "hydra-core", "pandas"]],
    # Alone and first: packages that need torch would otherwise install its GPU build of several gigabytes.
    "torch": [["torch==2.13.0"], ["lightning", "transformers", "accelerate", "scikit-learn"]],
    "jax": [["jax", "scikit-learn"]],
    # W&B's callbacks for Keras import TensorFlow, whatever the backend.
    "keras": [["tensorflow-cpu", "keras", "scikit-learn"]],
}
"""Packages of each environment, one list for each `pip install`."""


class Untried(Exception):
    """A row can't be tested here; the message says why."""


def environment(name: str, cache: Path) -> Path:
    """Return the interpreter of an environment with its packages and this checkout; create it if missing.

    Raises:
        Untried: a package can't be installed here.
    """
    folder = cache / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "pip").exists():
        venv.create(folder, clear=True, with_pip=True)
    _once(folder / "packages", repr(PACKAGES[name]), python, PACKAGES[name])
    _once(folder / "checkout", repr(ROOT), python, [["--editable", str(ROOT)]])
    return python


def versions(python: Path, packages: Sequence[str]) -> str:
    """Return the versions of packages in an environment, as text."""
    code = (
        "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _once(stamp: Path, wanted: str, python: Path, steps: Sequence[Sequence[str]]) -> None:
    """Install the packages unless the stamp, which is written last, exists."""
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for packages in steps:
        print("installing", *packages, "…", file=sys.stderr)
        _install(python, packages)
    stamp.write_text(wanted)


def _install(python: Path, packages: Sequence[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise Untried(f"`pip install {' '.join(packages)}` does not work here: {said[0]}")
