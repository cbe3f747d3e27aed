"""A driver for tests: fake_nvml.c and fake_cuda.c, compiled to libraries."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

LIBRARIES: Final = {"fake_nvml.c": "libnvidia-ml.so.1", "fake_cuda.c": "libcuda.so.1"}
COMPILER: Final = shutil.which("cc")
WHY_NO_COMPILER: Final = "no C compiler is installed, or this is not Linux (Debian: apt-get install gcc)"


def build_driver(folder: Path) -> dict[str, str]:
    """Build the driver in `folder`; return the variables by which a process finds it."""
    assert COMPILER is not None
    for source, library in LIBRARIES.items():
        words = ("-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library))
        subprocess.run([COMPILER, *words, str(Path(__file__).with_name(source))], check=True, timeout=60)
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(folder / "process")}
