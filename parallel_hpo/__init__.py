"""Run a Weights & Biases sweep on every core and device of this machine, with or without an account.

    hpo = ConfigLoader("config.json").hpo
    result = hpo.optimize(main)

The names below are imported when they are first used: workers and servers
import this package too, and need none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult as SweepResult
    from parallel_hpo.analysis.result import load as load
    from parallel_hpo.api import HPO as HPO
    from parallel_hpo.api import ConfigLoader as ConfigLoader
    from parallel_hpo.api import Handle as Handle
    from parallel_hpo.core.errors import BackendError as BackendError
    from parallel_hpo.core.errors import ConfigError as ConfigError
    from parallel_hpo.core.errors import LedgerError as LedgerError
    from parallel_hpo.core.errors import MissingExtraError as MissingExtraError
    from parallel_hpo.core.errors import ParallelHPOError as ParallelHPOError
    from parallel_hpo.core.errors import TargetError as TargetError
    from parallel_hpo.core.errors import UsageError as UsageError
    from parallel_hpo.core.errors import WorkerStartError as WorkerStartError
    from parallel_hpo.core.version import __version__ as __version__
    from parallel_hpo.count.policy import split_count as split_count

_ERRORS = (
    *("ParallelHPOError", "ConfigError", "TargetError", "UsageError"),
    *("MissingExtraError", "BackendError", "WorkerStartError", "LedgerError"),
)
_HOMES = {
    "HPO": "parallel_hpo.api",
    "ConfigLoader": "parallel_hpo.api",
    "Handle": "parallel_hpo.api",
    "SweepResult": "parallel_hpo.analysis.result",
    "load": "parallel_hpo.analysis.result",
    "split_count": "parallel_hpo.count.policy",
} | dict.fromkeys(_ERRORS, "parallel_hpo.core.errors")

__all__ = [*_HOMES]

_HOMES["__version__"] = "parallel_hpo.core.version"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
