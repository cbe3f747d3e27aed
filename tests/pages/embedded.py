"""The sweep server, whose owner is at the other end of a named pipe: `python embedded.py PIPE WORDS`."""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    _, pipe, *words = sys.argv
    owner = os.open(pipe, os.O_RDONLY)
    os.dup2(owner, 0)
    os.close(owner)
    sys.argv[1:] = words
    runpy.run_module("parallel_hpo.server", run_name="__main__", alter_sys=True)
