"""Writes a file that a command is asked for by `-o`: all of it is there, or what was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parallel_hpo.errors import UsageError


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield the path to write to; what it holds takes the file's place when the block is left.

    A device or a pipe is written itself. UsageError where it can't be written.
    """
    place = Path(os.path.realpath(file))  # a link stays one
    is_special = os.path.exists(place) and not os.path.isfile(place)  # noqa: PTH110, PTH113 - never raise
    draft = place if is_special else place.with_name(f".{place.name}.{os.getpid()}")
    try:
        yield draft
        if not is_special:
            draft.replace(place)
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror}; name another file by -o") from None
    finally:
        if not is_special:
            with suppress(OSError):
                draft.unlink()
