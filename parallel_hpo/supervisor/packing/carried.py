"""A file that `main` is in, or a sweep's program, as it travels with its name to machines that lack it.

Only that file: what it imports each machine has, or is told that it lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.words import Program, Target

MOST_FILE_BYTES: Final = 10**6
"""What is larger is no source: each machine has its own."""
FOLDER: Final = "main"
"""Where the file lies in a machine's folder of the sweep."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A named `main`, and what its file had where the sweep was created."""

    main: Target | Program
    content: bytes = field(repr=False)


def carry(main: PickledMain | Target | Program) -> PickledMain | Target | Program | Carried:
    """Return `main` with the file that it names, where there is one here."""
    if isinstance(main, PickledMain) or not names_file(main):
        return main
    path = Path(main.file)
    if not path.is_file() or path.stat().st_size > MOST_FILE_BYTES:
        return main
    return Carried(main, path.read_bytes())


def names_file(main: Target | Program) -> bool:
    """Whether it says where its file is, and not what its module is called."""
    return main.file != "" if isinstance(main, Program) else main.file.endswith(".py")


def lay_down(main: PickledMain | Target | Program | Carried, folder: Path) -> PickledMain | Target | Program:
    """Return `main` as this machine finds it: its own file, else what has travelled, put into `folder`."""
    if not isinstance(main, Carried):
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
