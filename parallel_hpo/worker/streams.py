"""The standard streams of a worker, made anew on their descriptors."""

from __future__ import annotations

import io
from typing import TextIO


def renew(stream: TextIO | None, fd: int) -> TextIO:
    """Return a text stream onto one of the standard descriptors, which it never closes.

    It is the same object where that can be: wandb has wrapped its `write` on import, to send the
    console's lines to the server. It begins anew all the same, for it may be closed, or know of a
    file that was seekable.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    buffer = open(fd, "wb", closefd=False)  # noqa: SIM115 - the stream is its owner
    io.TextIOWrapper.__init__(
        stream, buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return stream
