"""Plans a sweep on this machine, before anything starts. Called by `setup`, and by `run --dry-run`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parallel_hpo.client.choose import choose_backend
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.sweep import find_suspicious_bounds
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Slot, SweepId
from parallel_hpo.core.values import deadline_at
from parallel_hpo.count.policy import RestartLimits, split_count
from parallel_hpo.devices.cores import count_cores, count_physical_cores
from parallel_hpo.devices.health import FaultRule
from parallel_hpo.devices.library import DeviceLibrary, NoDriver, OpenLibrary, no_library, opened
from parallel_hpo.devices.placing import (
    Machine,
    SlotAssignment,
    SweepDevices,
    assign_slots,
    is_foreign,
    open_driver,
)
from parallel_hpo.processes.environment import base_environment, worker_environment
from parallel_hpo.session.decide.state import Limits


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The plan of a sweep: its workers, their shares of the count, and its backend with the reason."""

    workers: int
    count: int | None
    """Number of runs: the count, else the sweep's run_cap; None: no limit."""
    shares: tuple[int, ...]
    """Runs planned for each worker; empty where the count has no limit."""
    backend: str
    reason: str
    folder: Path
    """Parent of the sweep's folder."""
    environment: dict[str, str] = field(repr=False)
    """Variables of the first worker that differ from the parent's."""
    devices: tuple[str, ...]
    """Devices, given to workers in turn, as in their masks; empty: they compute on the CPU."""
    notes: tuple[Message, ...]
    """Notes about the devices and the sweep configuration."""


def plan_sweep(
    section: HpoSection,
    environment: Mapping[str, str],
    *,
    open_library: OpenLibrary = open_driver,
) -> SweepPlan:
    """Return the plan of a sweep.

    Raises:
        ConfigError: the deadline is past; the backend contradicts the environment, or the workers the
        devices. BackendError: `backend: wandb` without credentials.
    """
    now = time.time()
    expect_ahead(section, now=now, began_at=now)
    chosen = choose_backend(section.backend, environment)
    with opened(library_for(section, open_library)) as library:
        placement = place_workers(section, environment, library)
        equipment = SweepDevices(placement, library)
    worker = _first_workers_environment(section, environment, equipment, placement)
    return SweepPlan(
        workers=equipment.workers,
        count=(count := planned_count(section)),
        shares=shares_of(count, equipment.workers),
        backend=chosen.name,
        reason=chosen.reason,
        folder=section.directory,
        environment={name: value for name, value in worker.items() if environment.get(name) != value},
        devices=equipment.names,
        notes=(*placement.notes, *doubts_of(section)),
    )


def _first_workers_environment(
    section: HpoSection, environment: Mapping[str, str], equipment: SweepDevices, placement: SlotAssignment
) -> Mapping[str, str]:
    workers = equipment.workers
    base = base_environment(
        environment, cores=count_cores(), workers=workers, superseded=placement.superseded
    )
    return worker_environment(
        base,
        {},
        slot=Slot(0),
        workers=workers,
        sweep_id=SweepId("<sweep id>"),
        wandb_dir=str(section.directory / "<sweep id>" / "worker-0"),
        device=equipment.variables(Slot(0), equipment.names[0] if equipment.names else ""),
    )


def shares_of(count: int | None, workers: int) -> tuple[int, ...]:
    """Return the planned share of each worker; empty without a count."""
    return () if count is None else tuple(split_count(count, workers))


def planned_count(section: HpoSection) -> int | None:
    """Return the count of a launch, or else the run_cap of the sweep that it creates."""
    creates = section.sweep_configuration is not None and section.sweep_id is None
    if section.count is not None or not creates:
        return section.count
    cap: int | None = (section.sweep_configuration or {}).get("run_cap")
    return cap


def doubts_of(section: HpoSection) -> tuple[Message, ...]:
    """Return warnings about likely mistakes in the configuration of a new sweep."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return ()
    doubts = find_suspicious_bounds(section.sweep_configuration, where="hpo.sweep_configuration")
    return tuple(Message(words, warning=True) for words in doubts)


def limits_of(section: HpoSection) -> Limits:
    """Return the section's limits, for decisions."""
    return Limits(
        retries=section.retries,
        grace_s=section.grace_period_s,
        restart=RestartLimits(**section.restart.model_dump()),
        run_timeout_s=section.run_timeout_s,
        stall_timeout_s=section.stall_timeout_s,
        memory_limit_mb=section.memory_limit_mb,
        recycle_after=section.recycle_after,
        workers_per_device=1 if section.workers_per_device == "auto" else section.workers_per_device,
        seed=section.seed,
        faults=tuple(FaultRule(fault.pattern, fault.action) for fault in section.faults),
    )


def expect_ahead(section: HpoSection, *, now: float, began_at: float) -> None:
    """Raise ConfigError if the deadline is past; times in seconds since the epoch."""
    if section.deadline is not None and deadline_at(section.deadline, began_at) <= now:
        raise ConfigError(
            f"hpo.deadline is {section.deadline}, which has passed: no run could end before;"
            " give a later time, or leave it out"
        )


def library_for(section: HpoSection, open_library: OpenLibrary) -> OpenLibrary:
    """Return the function that opens the device library for this section."""
    return no_library if section.devices == "cpu" else open_library


def place_workers(
    section: HpoSection, environment: Mapping[str, str], library: DeviceLibrary | NoDriver
) -> SlotAssignment:
    """Return the sweep's slots with their devices; raises ConfigError if the configuration can't be met."""
    return assign_slots(section, Machine(environment, library, count_physical_cores, is_foreign))
