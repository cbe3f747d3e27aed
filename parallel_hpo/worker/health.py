"""Whether a worker's process can still do what every client of W&B's does, whatever its last run patched.

An agent would fail of it by itself. A run that is run again has no agent, and would fail of
what another run has done. Called after each run, hence 0.1 ms.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from parallel_hpo.worker.wording import error_in_words


def _start_thread() -> None:
    thread = threading.Thread(target=int, daemon=True)
    thread.start()
    thread.join()


PROBES: Final[Mapping[str, Callable[[], object]]] = {
    "json": lambda: json.loads(json.dumps({"key": [1.0]})),
    "threading": _start_thread,
    "socket": lambda: socket.socket().close(),
}


def why_unwell(probes: Mapping[str, Callable[[], object]] = PROBES) -> str:
    """Return what fails here now, and how; '' where nothing does."""
    for what, probe in probes.items():
        try:
            probe()
        except BaseException as error:  # noqa: BLE001 - what `main` has put there raises what it likes
            return f"its last run left {what} broken: {error_in_words(error)}"
    return ""
