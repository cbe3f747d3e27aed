"""The folder of a run that failed or crashed: what somebody needs who wants to know why.

<sweep id>/failed/<run id>/  run.json  parameters.json  reason.txt  traceback.txt
                             output.log  packages.txt  environment.json
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from parallel_hpo.supervisor.processes.environment import SECRET, secrets_of
from parallel_hpo.supervisor.records.summary import RunSummary

FAILED: Final = "failed"
"""The folder, within a sweep's, of those of its failed runs."""
ADDRESSES: Final = "PARALLEL_HPO_NOTIFY"
"""A variable that holds secrets too: Apprise addresses have them inside."""
_SECRET_PARTS: Final = (
    (re.compile(r"(?<=://)[^\s\"']*@"), "…@"),
    (
        re.compile(r"(?i)([?&;]|\b)([\w-]*(?:key|token|secret|passw|pwd|auth|sig)[\w-]*=)[^&;\s\"']+"),
        r"\1\2…",
    ),
    (re.compile(r"(?i)(https?://[^\s/\"']*(?:hook|discord)[^\s/\"']*/)[^\s\"']+"), r"\1…"),
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*"), "…"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|hf|xox[a-z]|wandb_v\d)[-_][\w-]{10,}"), "…"),
    (re.compile(r"(?=[A-Za-z+=]*\d)(?=[0-9+=]*[A-Za-z])[A-Za-z0-9+=]{20,}"), "…"),
)
"""Parts of a value that look like a secret, and what stands in their place: passwords in addresses,
`key=value`, webhooks, private keys, keys with a service's prefix, long words of letters and digits."""
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
    for private in (folder.parent, folder):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.chmod(0o700)
    secrets = secrets_of(failed.environment)
    texts = {
        "run.json": _as_json(told),
        "parameters.json": _as_json(failed.run.parameters),
        "reason.txt": _mask(f"{failed.run.outcome}: {failed.run.reason}\n", secrets),
        "traceback.txt": _mask(failed.traceback or find_traceback(failed.last_lines), secrets),
        "output.log": _mask("".join(f"{line}\n" for line in failed.last_lines), secrets),
        "packages.txt": packages(),
        "environment.json": _as_json(without_secrets(failed.environment)),
    }
    for name, text in texts.items():
        _write_private(folder / name, text)


def _write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read, also where it was there already."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
        os.fchmod(handle, 0o600)
        file.write(text)


def _mask(text: str, secrets: Sequence[str]) -> str:
    """Replace the values of secret variables that a program printed."""
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those of a secret's name, and without what looks like one in a value."""
    return {
        name: _without_secret_parts(value)
        for name, value in sorted(environment.items())
        if not SECRET.search(name) and name != ADDRESSES
    }


def _without_secret_parts(value: str) -> str:
    for pattern, shown in _SECRET_PARTS:
        value = pattern.sub(shown, value)
    return value


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
