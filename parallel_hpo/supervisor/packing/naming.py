"""How `main` is found again once the process that called `optimize` is gone: by its name, or kept as it is.

What has a name is not kept: whoever runs it again wants the file as it is by then, and a pickle may
hold what belongs into no file. The others (closures, lambdas, a notebook's functions) are kept for their
owner alone, and not where they hold a secret of the environment's.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from parallel_hpo.protocol.spec import PickledMain, SharedMemory
from parallel_hpo.words import Program, Target

FILE: Final = "main.pickle"
DATA: Final = "main.data"
"""Where what lay in memory for all workers lies then."""
MOST_BYTES: Final = 50 * 10**6
"""What is larger has data in it, of which no copy is kept."""


def name_of(main: Callable[[], object] | Target | Program) -> Target | Program | None:
    """Return the name by which another process finds `main`; None: it has none."""
    if isinstance(main, Program):
        return main
    if isinstance(main, Target):
        return replace(main, file=_whole(main.file))
    module = sys.modules.get(str(getattr(main, "__module__", "")))
    name = str(getattr(main, "__qualname__", ""))
    if module is None or not name.isidentifier() or getattr(module, name, None) is not main:
        return None
    spec = getattr(module, "__spec__", None)
    file = spec.name if spec is not None else str(getattr(module, "__file__", None) or "")
    if spec is None and not file.endswith(".py"):
        return None
    return Target(_whole(file), name, tuple(map(str, sys.argv[1:])))


def note_main(
    name: Target | Program | None,
    main: PickledMain | Target | Program,
    folder: Path,
    secrets: Iterable[str],
) -> dict[str, Any]:
    """Return what a ledger keeps of `main`; one without a name is kept in the sweep's folder, if it may be.

    It may not where one of `secrets` is in it.
    """
    if name is None and isinstance(main, PickledMain):
        return {"main": None, "main_not_kept": keep(main, folder, secrets)}
    return {"main": {"kind": type(name).__name__} | asdict(name or main), "main_not_kept": ""}


def from_fact(fact: Mapping[str, Any]) -> Target | Program:
    """Return the name that a ledger has kept."""
    if fact["kind"] == "Program":
        return Program(fact["file"], tuple(fact["command"]))
    return Target(fact["file"], fact["function"], tuple(fact["argv"]))


def keep(main: PickledMain, folder: Path, secrets: Iterable[str]) -> str:
    """Keep a `main` without a name in a folder; return why that was not done, in words, or ''."""
    if main.size > MOST_BYTES:
        return f"it takes {main.size / 10**6:.0f} MB"
    data = _read(main.payload)
    rest = main.script.rest.payload
    if any(secret.encode() in part for secret in secrets for part in (data, rest)):
        return "it holds the value of a variable with a secret's name"
    if isinstance(main.payload, SharedMemory):
        _write(folder / DATA, data)
        main = replace(main, payload=replace(main.payload, path=str(folder / DATA)))
    _write(folder / FILE, pickle.dumps(main))
    return ""


def kept_in(folder: Path) -> PickledMain | None:
    """Return the `main` that was kept in a folder; None: none was."""
    try:
        found = pickle.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    return found if isinstance(found, PickledMain) else None


def _whole(file: str) -> str:
    return str(Path(file).absolute()) if file.endswith(".py") else file


def _read(payload: bytes | SharedMemory) -> bytes:
    return payload if isinstance(payload, bytes) else Path(payload.path).read_bytes()


def _write(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
