"""Creates a sweep and starts nothing on it; on a server of ours machines can join it then.

parallel-hpo run CONFIG TARGET --create ─▶ sweep, pool ◀─ parallel-hpo join SWEEP, on any machine
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace

from parallel_hpo.backend.remote import RemoteBackend
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.head.offer import new_pool
from parallel_hpo.notices import Observer
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.launch import NOTHING, Stage
from parallel_hpo.supervisor.processes.reaper import make_mark
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import Program, SweepPath, Target


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
                section.count,
                is_apart=False,
                node_timeout_s=(section.machines or Machines()).node_timeout_s,
                headed=False,
            )
            there.backend.pool_of(there.sweep.path).create(pool)
        return there.sweep.path
