"""A packed `main` as text, as a pool keeps it for its machines."""

from __future__ import annotations

import pickle
from base64 import b64decode, b64encode
from typing import Final

from parallel_hpo.errors import TargetError
from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.supervisor.packing.carried import Carried, carry
from parallel_hpo.words import Program, Target

MOST_MAIN_BYTES: Final = 40 * 10**6
"""The server takes 64 MiB in a request, and Base64 makes four bytes of three."""


def to_text(main: PickledMain | Target | Program) -> str:
    """Return a packed `main`, with the file that it names, as JSON can hold it.

    TargetError where it is too large.
    """
    if isinstance(main, PickledMain) and main.size > MOST_MAIN_BYTES:
        raise TargetError(
            f"main takes {main.size / 10**6:.0f} MB, which each machine would have to be sent"
            f" (allowed: {MOST_MAIN_BYTES / 10**6:.0f} MB): let it read its data itself"
        )
    return b64encode(pickle.dumps(carry(main))).decode()


def from_text(text: str) -> PickledMain | Target | Program | Carried:
    """Return what `to_text` was given; raises whatever an object's own reduction does."""
    main = pickle.loads(b64decode(text))
    assert isinstance(main, PickledMain | Target | Program | Carried)
    return main
