"""How a pickled `main` travels: to workers on this machine (`Payload`), or with its file to others
(`ShippedMain`).

A small payload is sent to each worker. A large one is once in memory for all:

    | pickle | … | array | … | array |    an anonymous file in memory (Linux)

Workers open it through /proc and map it, so that they share unmodified pages. On other systems it goes to
each worker through its pipe. A pool stores it as text for its machines.

With a named `main` or a program, only its own file travels; each machine needs its imports.
"""

from __future__ import annotations

import io
import os
import pickle
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, Final, cast

from parallel_hpo.core.child_spec import LazyDefinitions, PickledMain, Script, SharedMemory
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Program, Target

MOST_FILE_BYTES: Final = 10**6
"""Maximum size of a source file; larger ones must be on each machine."""
FOLDER: Final = "main"
"""Folder of the file, within a machine's folder of the sweep."""


@dataclass(frozen=True, slots=True)
class ShippedMain:
    """A named `main`, with its file's content where the sweep was created."""

    main: Target | Program
    content: bytes = field(repr=False)


def ship(main: PickledMain | Target | Program) -> PickledMain | Target | Program | ShippedMain:
    """Return `main` with the file that it names, if that exists here."""
    if isinstance(main, PickledMain) or not names_file(main):
        return main
    path = Path(main.file)
    if not path.is_file() or path.stat().st_size > MOST_FILE_BYTES:
        return main
    return ShippedMain(main, path.read_bytes())


def names_file(main: Target | Program) -> bool:
    """Return whether it names a file, rather than a module."""
    return main.file != "" if isinstance(main, Program) else main.file.endswith(".py")


def install_main(
    main: PickledMain | Target | Program | ShippedMain, folder: Path
) -> PickledMain | Target | Program:
    """Return `main` with this machine's own file, or else the shipped one, written into `folder`."""
    if not isinstance(main, ShippedMain):
        return main
    if Path(main.main.file).is_file():
        return main.main
    file = folder.absolute() / FOLDER / Path(main.main.file).name
    _write(file, main.content)
    return replace(main.main, file=str(file))


def _write(file: Path, content: bytes) -> None:
    """Write a file atomically: several machines may share the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        draft.write(content)
    Path(draft.name).chmod(0o700)  # a program may be what its command starts
    Path(draft.name).replace(file)


LARGE_BYTES: Final = 2**20
"""Size above which a copy for each worker costs more than a shared file."""
_ALIGNMENT: Final = 64
"""Alignment of arrays, for vector instructions."""

MOST_MAIN_BYTES: Final = 40 * 10**6
"""Maximum size for other machines: the server accepts 64 MiB, and Base64 makes four bytes of three."""


class Payload:
    """A file for a pickle, with large buffers beside it; `stack` closes it.

    `whole`: all goes into the pickle, as it leaves this machine.
    """

    def __init__(self, stack: ExitStack, *, whole: bool = False) -> None:
        self.file: BinaryIO = _open_in_memory()
        stack.callback(self.file.close)
        self._buffers: list[memoryview] = []
        self._shares = not whole and not isinstance(self.file, io.BytesIO)

    def take(self, buffer: Any) -> bool:
        """Take a buffer of the pickled object; return True if it belongs in the pickle itself."""
        view = cast(memoryview, buffer.raw())
        if not self._shares or view.nbytes < LARGE_BYTES:
            return True
        self._buffers.append(view)
        return False

    @property
    def size(self) -> int:
        """Return the total size in bytes."""
        return self.file.seek(0, os.SEEK_END) + sum(view.nbytes for view in self._buffers)

    def close(self) -> bytes | SharedMemory:
        """Return the bytes or the shared memory that workers read."""
        if not self._shares or self.size < LARGE_BYTES:
            self.file.seek(0)
            return self.file.read()
        places = tuple(self._append(view) for view in self._buffers)
        self._buffers.clear()
        self.file.flush()
        return SharedMemory(f"/proc/{os.getpid()}/fd/{self.file.fileno()}", places)

    def _append(self, view: memoryview) -> tuple[int, int]:
        end = self.file.seek(0, os.SEEK_END)
        start = self.file.seek(-(-end // _ALIGNMENT) * _ALIGNMENT)
        self.file.write(view)
        return start, view.nbytes


def _open_in_memory() -> BinaryIO:
    if not hasattr(os, "memfd_create"):
        return io.BytesIO()
    return os.fdopen(os.memfd_create("parallel_hpo-main"), "w+b")


def to_text(main: PickledMain | Target | Program) -> str:
    """Return a packed `main`, with the file that it names, as text; raises TargetError if it is too large."""
    if isinstance(main, PickledMain) and main.size > MOST_MAIN_BYTES:
        raise TargetError(
            f"main takes {main.size / 10**6:.0f} MB, too much to send to each machine"
            f" (allowed: {MOST_MAIN_BYTES / 10**6:.0f} MB): let it read its data itself"
        )
    return b64encode(pickle.dumps(ship(main))).decode()


EARLIER: Final[Mapping[tuple[str, str], type]] = {
    ("parallel_hpo.words", "Target"): Target,
    ("parallel_hpo.words", "Program"): Program,
    ("parallel_hpo.protocol.spec", "PickledMain"): PickledMain,
    ("parallel_hpo.protocol.spec", "Script"): Script,
    ("parallel_hpo.protocol.spec", "Rest"): LazyDefinitions,
    ("parallel_hpo.protocol.spec", "SharedMemory"): SharedMemory,
    ("parallel_hpo.supervisor.packing.carried", "Carried"): ShippedMain,
}
"""Former names of classes in a `main` that an earlier version stored in a folder or a pool."""


class _MainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return EARLIER.get((module, name)) or super().find_class(module, name)


def load_main(data: bytes) -> Any:
    """Unpickle a `main` stored by this or an earlier version; raises what an object's reduction raises."""
    return _MainUnpickler(io.BytesIO(data)).load()


def from_text(text: str) -> PickledMain | Target | Program | ShippedMain:
    """Return the `main` encoded by `to_text`; raises what an object's reduction raises."""
    main = load_main(b64decode(text))
    assert isinstance(main, PickledMain | Target | Program | ShippedMain)
    return main
