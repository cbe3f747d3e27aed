"""A machine's part in a sweep of many: epoch after epoch, until the sweep is over or somebody stops it.

An epoch ends early where the pool could not be heard for too long, or took the machine for gone: by then
nothing of it runs any more, and the machine joins anew with nothing of what it had.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.tables import Failures
from parallel_hpo.errors import ExitCode
from parallel_hpo.notices import Message, Observer
from parallel_hpo.protocol.pool import NODE_TOKEN
from parallel_hpo.protocol.spec import PickledMain
from parallel_hpo.supervisor.control.signals import Control, SignalsTaken
from parallel_hpo.supervisor.decisions.events import StopAsked
from parallel_hpo.supervisor.membership.telling import Relay
from parallel_hpo.supervisor.node_stage import NodePart, NodeStage
from parallel_hpo.supervisor.processes.reaper import make_mark
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import Program, StopKind, Target

AWAIT_SERVER_S: Final = 30.0
"""So long a machine that comes waits at least for its server: they are often started together."""
LEASES: Final = 10
"""So many leases a machine that was cut off tries to come back for."""
STDIN: Final = 0
ORPHANED: Final = "its standard input has ended: whoever started this machine's part is gone"


def take_part(
    part: NodePart,
    section: HpoSection,
    main: PickledMain | Target | Program,
    *,
    observer: Observer,
    once: bool,
    environment: Mapping[str, str] | None = None,
) -> SweepResult:
    """Perform what the pool grants this machine; return what became of its last epoch.

    `once`: the machine does not join anew, and stops where its standard input, a pipe, ends: an engine
    that has started it sees to both.

    Raises:
        What `NodeStage.take_part` raises.
    """
    own = section_of_node(section, headed=part.pool.headed)
    machine = _Machine(part, own, main, observer, once, time.monotonic(), environment)
    epoch = machine.take_part(wait_s=max(AWAIT_SERVER_S, part.pool.node_timeout_s), previous=0)
    while epoch.again:
        observer(Message("this machine joins the sweep anew"))
        epoch = machine.take_part(wait_s=LEASES * part.pool.node_timeout_s, previous=epoch.number)
    return epoch.result


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What became of one."""

    number: int
    result: SweepResult
    again: bool
    """The machine is to join anew."""


@dataclass(frozen=True, slots=True)
class _Machine:
    """What all epochs of a machine have in common."""

    part: NodePart
    section: HpoSection
    main: PickledMain | Target | Program
    observer: Observer
    once: bool
    began: float
    """Monotonic seconds, of the first."""
    environment: Mapping[str, str] | None = field(repr=False)

    def take_part(self, *, wait_s: float, previous: int) -> _Epoch:
        """Return what became of the next epoch."""
        with closing(Control()) as control, ExitStack() as stack:
            stack.enter_context(SignalsTaken(control))
            if self.once:
                stack.enter_context(_Owner(control))
            stage = self._stage(control, stack, wait_s, previous)
            result = stage.take_part()
            stack.close()
            lost = stage.membership is not None and bool(stage.membership.lost)
            asked = control.has_stopped and not (lost and control.second_at is None)
            return _Epoch(stage.epoch, result, again=lost and not asked and not self.once)

    def _stage(self, control: Control, stack: ExitStack, wait_s: float, previous: int) -> NodeStage:
        variables = os.environ if self.environment is None else self.environment
        token = variables.get(NODE_TOKEN) if self.once else None
        relay = Relay(self.observer, self.part.count)
        setting = Setting(
            *(self.section, self.main, relay, control, time.monotonic, random.random),
            *(make_mark(token), self.began),
            name=None if isinstance(self.main, PickledMain) else self.main,
        )
        return NodeStage(
            setting,
            self.environment,
            stack,
            part=self.part,
            relay=relay,
            wait_s=wait_s,
            previous=previous,
        )


def section_of_node(section: HpoSection, *, headed: bool) -> HpoSection:
    """Return a section without what is counted over all machines, or seen to at the head.

    Without a head, machines come when they do, and each has its own time until the deadline.
    """
    return section.model_copy(
        update={
            "count": None,
            "failures": Failures(max_initial=None),
            "sweep_timeout_s": None,
            "deadline": None if headed else section.deadline,
            "on_end": None,
            "notify": [],
            "machines": None,
        }
    )


class _Owner:
    """Within the block the end of standard input interrupts: nobody is there any more who would do so."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> None:
        if stat.S_ISFIFO(os.fstat(STDIN).st_mode):
            threading.Thread(target=self._wait, name="parallel_hpo-owner", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True

    def _wait(self) -> None:
        while os.read(STDIN, 4096):
            pass
        with self._lock:
            if not self._over:
                self._control.put(StopAsked(StopKind.INTERRUPT, ORPHANED, ExitCode.RESUMABLE))
