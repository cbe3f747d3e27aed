"""What a section of the configuration comes to on this machine, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parallel_hpo.backend.choose import choose_backend
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.plan import split_count
from parallel_hpo.policy.breaker import FailureLimits
from parallel_hpo.policy.restart import RestartLimits
from parallel_hpo.supervisor.environment import base_environment, worker_environment
from parallel_hpo.supervisor.view import Limits
from parallel_hpo.words import Slot, SweepId


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The plan of a sweep: its workers, their shares of the count, where it would run and why there."""

    workers: int
    shares: tuple[int, ...]
    """Runs planned for each worker; empty where the count has no limit."""
    backend: str
    reason: str
    folder: Path
    """The folder that the sweep's own is made in."""
    environment: dict[str, str]
    """What the first worker's environment has beyond or different from the parent's."""


def plan_sweep(section: HpoSection, environment: Mapping[str, str] = os.environ) -> SweepPlan:
    """Return the plan of a sweep.

    Raises:
        ConfigError: the backend is at odds with the environment.
        BackendError: `backend: wandb` without credentials.
    """
    chosen = choose_backend(section.backend, environment)
    workers = count_workers(section)
    base = base_environment(environment, cores=count_cores(), workers=workers)
    worker = worker_environment(
        base,
        {},
        slot=Slot(0),
        workers=workers,
        sweep_id=SweepId("<sweep id>"),
        wandb_dir=str(section.directory / "<sweep id>" / "worker-0"),
    )
    return SweepPlan(
        workers=workers,
        shares=shares_of(section.count, workers),
        backend=chosen.name,
        reason=chosen.reason,
        folder=section.directory,
        environment={name: value for name, value in worker.items() if environment.get(name) != value},
    )


def shares_of(count: int | None, workers: int) -> tuple[int, ...]:
    """Return the planned share of each worker; none where the count has no limit."""
    return () if count is None else tuple(split_count(count, workers))


def limits_of(section: HpoSection) -> Limits:
    """Return what the section allows, as decisions take it."""
    return Limits(
        count=section.count,
        retries=section.retries,
        grace_s=section.grace_period_s,
        restart=RestartLimits(**section.restart.model_dump()),
        failures=FailureLimits(**section.failures.model_dump()),
        run_timeout_s=section.run_timeout_s,
        sweep_timeout_s=section.sweep_timeout_s,
        stall_timeout_s=section.stall_timeout_s,
        memory_limit_mb=section.memory_limit_mb,
        recycle_after=section.recycle_after,
    )


def count_workers(section: HpoSection) -> int:
    """Return how many slots the sweep gets: what the section says, else one per physical core."""
    if section.workers == "auto":
        return _joblib().cpu_count(only_physical_cores=True)  # type: ignore[no-any-return]
    return section.workers


def count_cores() -> int:
    """Return the logical cores that this process may use, cgroup limits included."""
    return _joblib().cpu_count()  # type: ignore[no-any-return]


def _joblib() -> Any:
    import joblib  # imported late: it takes a while, and other processes are being started meanwhile

    return joblib
