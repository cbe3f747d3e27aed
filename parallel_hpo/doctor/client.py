"""The doctor on wandb: its version, its credentials, and what in the environment misleads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from parallel_hpo.backend.choose import choose_backend
from parallel_hpo.config.hpo import BackendChoice
from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.errors import ParallelHPOError
from parallel_hpo.supervisor.processes.environment import LEAKED

OLDEST: Final = (0, 28, 2)
"""The oldest release that is supported, as in pyproject.toml; docs/releases.md says why none before it."""
FLAPPING: Final = "WANDB_AGENT_DISABLE_FLAPPING"


def examine_client(environment: Mapping[str, str], backend: BackendChoice) -> Iterator[Finding]:
    """Say what wandb's client is and where it would go."""
    yield _on_version()
    try:
        chosen = choose_backend(backend, environment)
        yield good("backend", f"{chosen.name}: {chosen.reason}")
    except ParallelHPOError as error:
        yield bad("backend", str(error), "log in with `wandb login`, or set hpo.backend to local")
    for name in LEAKED:
        if name in environment:
            yield _on_leak(name, environment[name])


def _on_version() -> Finding:
    try:
        found = version("wandb")
    except PackageNotFoundError:
        return bad("wandb", "is not installed", "pip install wandb")
    if is_too_old(found):
        return bad("wandb", f"version {found} is too old", "pip install --upgrade wandb")
    return good("wandb", f"version {found}")


def is_too_old(version: str) -> bool:
    """Whether a release of wandb is older than those that are supported."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < OLDEST


def _on_leak(name: str, value: str) -> Finding:
    if name == FLAPPING:
        words = f"{name}={value} ends wandb's own agents after their first failed run; workers don't get it"
    else:
        words = f"{name}={value} is of a run or job that this shell is in; workers don't get it"
    return warning("environment", words, f"unset {name}")
