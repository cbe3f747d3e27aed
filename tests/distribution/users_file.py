"""A user's file for strict mypy, with the names and types of the docs. Never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import parallel_hpo
from parallel_hpo import (
    HPO,
    BackendError,
    ConfigError,
    ConfigLoader,
    Handle,
    LedgerError,
    MissingExtraError,
    ParallelHPOError,
    SweepResult,
    TargetError,
    UsageError,
    WorkerStartError,
    load,
    split_count,
)


def main() -> float:
    """A `main` may return anything."""
    return 0.5


def configured() -> HPO | None:
    """Return a section from a file, or from code."""
    loader = ConfigLoader(Path("config.json"), environment={"PARALLEL_HPO_COUNT": "3"})
    assert_type(loader.hpo, HPO | None)
    return loader.hpo or HPO.from_dict({"count": 3, "sweep_configuration": {"method": "random"}})


def performed(hpo: HPO) -> SweepResult:
    """Run in the foreground, and handle every error."""
    try:
        return hpo.optimize(main, resume=None)
    except (ConfigError, TargetError, UsageError, MissingExtraError) as error:
        raise SystemExit(error.exit_code) from error
    except (BackendError, LedgerError, WorkerStartError):
        raise
    except ParallelHPOError as error:
        assert_type(str(error), str)
        raise


def in_the_background(hpo: HPO) -> SweepResult:
    """Run in the background with a handle."""
    handle = hpo.start(lambda: None)
    assert_type(handle, Handle)
    assert_type(handle.done(), bool)
    if handle.best is not None:
        assert_type(handle.best.value, float)
    handle.drain()
    handle.stop()
    return handle.result(timeout=1.5)


def looked_at(result: SweepResult) -> None:
    """Read all fields of a result."""
    if result.best is not None:
        assert_type(result.best.run_id, str)
    assert_type([run.value for run in result.runs], list[float | None])
    assert_type([worker.restarts for worker in result.workers], list[int])
    assert_type((result.attempted, result.exit_code, result.folder), tuple[int, int, str])
    assert_type(result.to_json(), str)
    result.to_study()
    result.to_dataframe()
    result.plots.importances("lr", "optimizer.momentum")


assert_type(load("abc", directory="sweeps"), SweepResult)
assert_type(split_count(10, 3), list[int])
assert_type(parallel_hpo.__version__, str)
