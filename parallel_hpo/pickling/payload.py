"""A file that `main` is in, or a sweep's program, as it travels with its name to machines that lack it.

Only that file: what it imports each machine has, or is told that it lacks it.

What a pickled `main` lies in on its way: small, in the workers' orders; large, once in memory for all.

    | pickle | … | array | … | array |    a file without a name, in memory (Linux)

Workers open it through /proc and map it, so that they share what nobody writes to.
Elsewhere it goes to each worker through its pipe, whatever its size.
A pool keeps it as text for its machines.
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
"""What is larger is no source: each machine has its own."""
FOLDER: Final = "main"
"""Where the file lies in a machine's folder of the sweep."""


@dataclass(frozen=True, slots=True)
class ShippedMain:
    """A named `main`, and what its file had where the sweep was created."""

    main: Target | Program
    content: bytes = field(repr=False)


def carry(main: PickledMain | Target | Program) -> PickledMain | Target | Program | ShippedMain:
    """Return `main` with the file that it names, where there is one here."""
    if isinstance(main, PickledMain) or not names_file(main):
        return main
    path = Path(main.file)
    if not path.is_file() or path.stat().st_size > MOST_FILE_BYTES:
        return main
    return ShippedMain(main, path.read_bytes())


def names_file(main: Target | Program) -> bool:
    """Whether it says where its file is, and not what its module is called."""
    return main.file != "" if isinstance(main, Program) else main.file.endswith(".py")


def lay_down(
    main: PickledMain | Target | Program | ShippedMain, folder: Path
) -> PickledMain | Target | Program:
    """Return `main` as this machine finds it: its own file, else what has travelled, put into `folder`."""
    if not isinstance(main, ShippedMain):
        return main
    if Path(main.main.file).is_file():
        return main.main
    place = folder.absolute() / FOLDER / Path(main.main.file).name
    _write(place, main.content)
    return replace(main.main, file=str(place))


def _write(place: Path, content: bytes) -> None:
    """Write a file at one blow: several machines may keep their sweeps in one folder."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=place.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o700)  # a program may be what its command starts
    Path(file.name).replace(place)


LARGE_BYTES: Final = 2**20
"""From here on a copy for each worker costs more than a file."""
_ALIGNMENT: Final = 64
"""Of arrays, for the processor's vector instructions."""

MOST_MAIN_BYTES: Final = 40 * 10**6
"""The server takes 64 MiB in a request, and Base64 makes four bytes of three."""


class Payload:
    """Takes a pickle as a file does, and large buffers beside it; `stack` lets go of it in the end.

    A `whole` one is never in memory for all, as it leaves this machine.
    """

    def __init__(self, stack: ExitStack, *, whole: bool = False) -> None:
        self.file: BinaryIO = _open_in_memory()
        stack.callback(self.file.close)
        self._buffers: list[memoryview] = []
        self._shares = not whole and not isinstance(self.file, io.BytesIO)

    def take(self, buffer: Any) -> bool:
        """Take a buffer of the object that is pickled; True: it is to go into the pickle itself."""
        view = cast(memoryview, buffer.raw())
        if not self._shares or view.nbytes < LARGE_BYTES:
            return True
        self._buffers.append(view)
        return False

    @property
    def size(self) -> int:
        """All that is in it, in bytes."""
        return self.file.seek(0, os.SEEK_END) + sum(view.nbytes for view in self._buffers)

    def close(self) -> bytes | SharedMemory:
        """Return what workers read it from."""
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
    """Return a packed `main`, with the file that it names, as JSON can hold it.

    TargetError where it is too large.
    """
    if isinstance(main, PickledMain) and main.size > MOST_MAIN_BYTES:
        raise TargetError(
            f"main takes {main.size / 10**6:.0f} MB, which each machine would have to be sent"
            f" (allowed: {MOST_MAIN_BYTES / 10**6:.0f} MB): let it read its data itself"
        )
    return b64encode(pickle.dumps(carry(main))).decode()


EARLIER: Final[Mapping[tuple[str, str], type]] = {
    ("parallel_hpo.words", "Target"): Target,
    ("parallel_hpo.words", "Program"): Program,
    ("parallel_hpo.protocol.spec", "PickledMain"): PickledMain,
    ("parallel_hpo.protocol.spec", "Script"): Script,
    ("parallel_hpo.protocol.spec", "Rest"): LazyDefinitions,
    ("parallel_hpo.protocol.spec", "SharedMemory"): SharedMemory,
    ("parallel_hpo.supervisor.packing.carried", "Carried"): ShippedMain,
}
"""Where a `main` that an earlier version kept in a folder or a pool names its classes."""


class _MainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return EARLIER.get((module, name)) or super().find_class(module, name)


def load_main(data: bytes) -> Any:
    """Unpickle a `main` that this or an earlier version kept; raises what an object's own reduction does."""
    return _MainUnpickler(io.BytesIO(data)).load()


def from_text(text: str) -> PickledMain | Target | Program | ShippedMain:
    """Return what `to_text` was given; raises whatever an object's own reduction does."""
    main = load_main(b64decode(text))
    assert isinstance(main, PickledMain | Target | Program | ShippedMain)
    return main
