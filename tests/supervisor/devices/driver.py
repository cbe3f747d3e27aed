"""A driver for tests: fake_nvml.c, compiled to the library that nvidia-ml-py loads."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("fake_nvml.c")
COMPILER: Final = shutil.which("cc")


def build_driver(folder: Path) -> dict[str, str]:
    """Return the variables with which a process finds the driver, which is made in `folder`."""
    assert COMPILER is not None
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True, timeout=60)
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(folder / "process")}
