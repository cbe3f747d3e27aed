"""`lead`: what `supervise` is for one machine, for many: from a checked section and a `main` to a result.

A sweep may also be created with nothing started on it; on a server of ours machines can join it then:

parallel-hpo run CONFIG TARGET --create ─▶ sweep, pool ◀─ parallel-hpo join SWEEP, on any machine
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace

from parallel_hpo.backend.pool import PoolDoor
from parallel_hpo.backend.remote import RemoteBackend
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.errors import UsageError
from parallel_hpo.head.offer import new_pool
from parallel_hpo.head.stage import HeadStage, MakeDoor
from parallel_hpo.machines.base import ClusterEngine
from parallel_hpo.notices import Observer
from parallel_hpo.plan import Launch
from parallel_hpo.supervisor.control.signals import Control, SignalsTaken
from parallel_hpo.supervisor.launch import NOTHING, Stage
from parallel_hpo.supervisor.packing.main import pack_main
from parallel_hpo.supervisor.packing.naming import name_of
from parallel_hpo.supervisor.processes.reaper import make_mark
from parallel_hpo.supervisor.records.resuming import count_or_cap
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import Program, SweepPath, Target


def lead(
    section: HpoSection,
    main: Callable[[], object] | Target | Program,
    *,
    observer: Observer,
    control: Control,
    launch: Launch,
    machines: Machines,
    make_engine: Callable[[], ClusterEngine] | None,
    make_door: MakeDoor = PoolDoor,
    environment: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SweepResult:
    """Perform a sweep on many machines, and return what became of it; raises what `supervise` raises.

    `make_engine` connects to what finds the machines; None: they come by `parallel-hpo join`.
    """
    if launch.share is not None:
        raise UsageError("--share is for launches on one machine each: with hpo.machines there are no shares")
    with ExitStack() as stack:
        packed = pack_main(main, stack, travels=True)
        setting = Setting(
            *(section, packed, observer, control, clock, random.random, make_mark(), clock()),
            resumes=launch.resume is not None,
            keep_configuration=launch.keep_configuration,
            name=name_of(main),
        )
        stack.enter_context(SignalsTaken(control))
        stage = HeadStage(
            *(setting, environment, stack), machines=machines, make_engine=make_engine, make_door=make_door
        )
        return stage.perform(launch.resume)


def create_sweep(
    section: HpoSection,
    main: Target | Program | None,
    *,
    observer: Observer,
    environment: Mapping[str, str] | None = None,
) -> SweepPath:
    """Create the sweep, and the pool that machines draw from; raises what `supervise` raises.

    `main` None: each machine brings its own.
    """
    with closing(Control()) as control, ExitStack() as stack:
        setting = Setting(
            section, NOTHING, observer, control, time.monotonic, random.random, make_mark(), time.monotonic()
        )
        there = Stage(setting, environment, stack).open({})
        if isinstance(there.backend, RemoteBackend):
            pool = new_pool(
                replace(setting, main=main or NOTHING),
                there.sweep,
                count_or_cap(section.count, there.sweep.run_cap, before=0),
                is_apart=False,
                node_timeout_s=(section.machines or Machines()).node_timeout_s,
                headed=False,
            )
            there.backend.pool_of(there.sweep.path).create(pool)
        return there.sweep.path
