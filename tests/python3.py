"""What `python3` is to something that a test runs (see `interpreter.py`), by the socket that it is given.

A call of a module, of code or of a script is asked for there; one with options is a new interpreter's.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    _, place, *words = sys.argv
    if words[0].startswith("-") and words[0] not in ("-m", "-c"):
        os.execv(sys.executable, [sys.executable, *words])
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(place)
        socket.send_fds(line, [b"."], [0, 1, 2])
        line.sendall(json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode() + b"\n")
        sys.exit(int(line.recv(16)))
