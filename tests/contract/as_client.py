"""A client in a fork that has imported wandb already: `python -m tests.contract.as_client SCRIPT WORDS`.

It is in its home and finds what PYTHONPATH says, as `python SCRIPT WORDS` there would be and would find.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from typing import Final

CAPTURE: Final = "wandb.sdk.lib.console_capture"
"""Hears what is written to the streams that were there when it was imported: a fork has others."""

if __name__ == "__main__":
    sys.argv.pop(0)
    os.chdir(os.environ["HOME"])
    sys.path[:1] = [str(Path(sys.argv[0]).parent), *os.environ["PYTHONPATH"].split(os.pathsep)]
    if CAPTURE in sys.modules:
        importlib.reload(sys.modules[CAPTURE])
    runpy.run_path(sys.argv[0], run_name="__main__")
