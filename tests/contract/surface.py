"""Calls the documented API of the wandb client in three places, and reports different results.

The places are a function `main` of a sweep, a program of a sweep, and plain Python; each has its own
embedded server. The calls are in `tests/contract/clients/surface/calls.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.conftest import make_clean_env
from tests.contract.serving import AT_ONCE, CLIENTS, ROOT, serving

CALLS: Final = CLIENTS / "surface" / "calls.py"


@dataclass(frozen=True)
class Place:
    """The results of one place."""

    rows: dict[str, Any] = field(default_factory=dict)
    """By the member's name."""
    missing: tuple[str, ...] = ()
    """Documented members that no case called."""
    lost: tuple[str, ...] = ()
    """Cases without a result."""


def find(folder: Path, cases: Sequence[str]) -> dict[str, Place]:
    """Run the cases in all places at once."""
    program = f"import runpy\nrunpy.run_path({str(CALLS)!r}, run_name='__main__')\n"
    with ThreadPoolExecutor(3) as threads:
        found = {
            "function `main`": threads.submit(_sweep, folder / "function", cases, f"{CALLS}:main"),
            "program": threads.submit(_sweep, folder / "program", cases, program=program),
            "plain Python": threads.submit(_plain, folder / "plain", cases),
        }
        return {name: place.result() for name, place in found.items()}


def _plain(folder: Path, cases: Sequence[str]) -> Place:
    folder.mkdir()
    with serving(folder, _environment(folder)) as server:
        for case in cases:
            _run(folder, str(CALLS), f"--case={case}", env=server.client_env)
    return _read(folder, cases)


def _sweep(folder: Path, cases: Sequence[str], *target: str, program: str = "") -> Place:
    folder.mkdir()
    (folder / "calls.py").write_text(program)
    sweep = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"case": {"values": list(cases)}}}
    section = {
        "directory": str(folder / "sweeps"),
        "workers": 2,
        "count": len(cases),
        "failures": {"max_initial": None},
        "sweep_configuration": sweep | ({"program": "calls.py"} if program else {}),
    }
    (folder / "config.json").write_text(json.dumps({"hpo": section}))
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PARALLEL_HPO_BACKEND": "local"}
    own = _environment(folder) | AT_ONCE | path
    _run(folder, "-m", "parallel_hpo", "run", "config.json", *target, env=own)
    return _read(folder, cases)


def _run(folder: Path, *words: str, env: dict[str, str]) -> None:
    """Run an interpreter whose cases write their results to the folder."""
    found = folder / "found"
    found.mkdir(exist_ok=True)
    own, words = env | {"SURFACE": str(found)}, (sys.executable, *words)
    subprocess.run(words, env=own, cwd=folder, timeout=600.0, check=False, capture_output=True)


def _environment(folder: Path) -> dict[str, str]:
    return make_clean_env(folder / "home") | {"PYTHONPATH": str(ROOT)}


def _read(folder: Path, cases: Sequence[str]) -> Place:
    rows: dict[str, Any] = {}
    missing: list[str] = []
    lost: list[str] = []
    for case in cases:
        path = folder / "found" / f"{case}.json"
        if not path.exists():
            lost.append(case)
            continue
        found = json.loads(path.read_text())
        rows |= found["rows"]
        missing += found["missing"]
    return Place(rows, tuple(missing), tuple(lost))


REASONS: Final[Mapping[str, str]] = {
    "Run.sweep_id": "plain Python has no sweep",
    "Settings.sweep_id": "plain Python has no sweep",
    "Settings.sweep_param_path": "plain Python has no sweep",
    "Settings.sweep_url": "plain Python has no sweep",
    "Settings.init_timeout": "a sweep waits for its server",
    "Settings.settings_system": "a sweep has a folder of its own",
    "Settings.credentials_file": "a sweep has a folder of its own",
    "init(reinit create_new)": "a sweep's run has its id already",
    "init(resume_from)": "a sweep's run has its id already",
    "init(reinit finish_previous)": "a sweep's run has its id already: the second one is the same",
    "init(reinit True)": "a sweep's run has its id already: the second one is the same",
    "init(fork_from)": "the message names the sweep, to which its key is confined",
    "init(resume must)": "a sweep's run has its id already",
}
"""Reasons for permitted differences between places."""


def differences(found: Mapping[str, Place]) -> dict[str, list[Any]]:
    """Return the results by name that differ between places without a known reason."""
    places = found.values()
    names = {name for place in places for name in place.rows}
    brought = {name: [place.rows.get(name, {}).get("brought") for place in places] for name in names}
    return {name: each for name, each in brought.items() if not is_same(each) and name not in REASONS}


def is_same(each: Sequence[object]) -> bool:
    """Return whether all places have the same result."""
    return all(one == each[0] for one in each)
