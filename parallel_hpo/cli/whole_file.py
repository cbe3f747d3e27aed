"""What a command is asked for by `-o`: a file of which all is there, or what was there before; or stdout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from parallel_hpo.errors import UsageError

STDOUT: Final = 1


def is_stdout(file: Path) -> bool:
    """Whether it is where stdout goes by itself, as `-` is by custom: it is no file then, to be replaced."""
    with suppress(OSError):
        return str(file) == "-" or os.path.samestat(file.stat(), os.fstat(STDOUT))
    return False


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield the path to write to; what it holds takes the file's place when the block is left.

    A device or a pipe is written itself. UsageError where it can't be written.
    """
    is_special = os.path.exists(file) and not os.path.isfile(file)  # noqa: PTH110, PTH113 - never raise
    # A link stays one; that of a pipe in /dev/fd leads to no path.
    place = Path(os.path.realpath(file))
    draft = file if is_special else place.with_name(f".{place.name}.{os.getpid()}")
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
