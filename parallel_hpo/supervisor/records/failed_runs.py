"""The folder of a run that failed or crashed: what somebody needs who wants to know why.

<sweep id>/failed/<run id>/  run.json  parameters.json  reason.txt  traceback.txt
                             output.log  packages.txt  environment.json
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from parallel_hpo.supervisor.processes.environment import SECRET
from parallel_hpo.supervisor.records.summary import RunSummary

FAILED: Final = "failed"
"""The folder, within a sweep's, of those of its failed runs."""
ADDRESSES: Final = "PARALLEL_HPO_NOTIFY"
"""A variable that holds secrets too: Apprise addresses have them inside."""
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]*@")
_HEADER: Final = "Traceback (most recent call last):"
_CHAINED: Final = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_CRASH: Final = ("Fatal Python error:", "Current thread 0x", "Thread 0x")
"""How the stacks begin that a dying or a stalled interpreter prints."""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that has failed or crashed for good, and what was seen of it."""

    run: RunSummary
    traceback: str
    """As its worker told it; '' where that had no word, or left it to a program."""
    last_lines: Sequence[str]
    """Of what its process tree printed."""
    environment: Mapping[str, str] = field(repr=False)


def write_failed_run(folder: Path, failed: FailedRun, told: Mapping[str, Any]) -> None:
    """Write a failed run's folder; `told` is what `on_failure` gets. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "run.json": _as_json(told),
        "parameters.json": _as_json(failed.run.parameters),
        "reason.txt": f"{failed.run.outcome}: {failed.run.reason}\n",
        "traceback.txt": failed.traceback or find_traceback(failed.last_lines),
        "output.log": "".join(f"{line}\n" for line in failed.last_lines),
        "packages.txt": packages(),
        "environment.json": _as_json(without_secrets(failed.environment)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="replace")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may be shown: none with a secret's name, and no password in an address."""
    return {
        name: _CREDENTIALS.sub("…@", value)
        for name, value in sorted(environment.items())
        if not SECRET.search(name) and name != ADDRESSES
    }


@cache
def packages() -> str:
    """Return the versions of Python and of all that is installed beside this package, as pip writes them."""
    told = [each.metadata for each in distributions()]  # read and parsed at each look
    found = {str(each["Name"]): each["Version"] for each in told if each["Name"]}
    lines = [
        f"{name}=={version}" for name, version in sorted(found.items(), key=lambda pair: pair[0].lower())
    ]
    return "\n".join([f"# Python {platform.python_version()}, {platform.platform()}", *lines, ""])


def find_traceback(lines: Sequence[str]) -> str:
    """Return the last traceback among printed lines, with what it was raised from; '' where there is none."""
    starts = [index for index, line in enumerate(lines) if line.strip() == _HEADER]
    if not starts:
        return _find_stacks(lines)
    start = starts.pop()
    while starts and any(line.strip() in _CHAINED for line in lines[max(0, start - 2) : start]):
        start = starts.pop()
    end = next(
        (index for index in range(start, len(lines)) if lines[index].startswith("wandb: ")), len(lines)
    )
    return "".join(f"{line}\n" for line in lines[start:end])


def _find_stacks(lines: Sequence[str]) -> str:
    start = next((index for index, line in enumerate(lines) if line.startswith(_CRASH)), len(lines))
    return "".join(f"{line}\n" for line in lines[start:])


def _as_json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
