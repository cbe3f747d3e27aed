"""A machine's part in a sweep's pool: it joins, runs what it is granted, and leaves. Called by `join`.

    devices ─▶ join: the lease is kept from here on ─▶ fork server ─▶ try `main` ─▶ MachineSession ─▶ leave

One such membership is an epoch; its ledger is a copy, as the pool counts. An epoch ends early if the pool was
unreachable for too long or has removed the machine. All its processes have been killed by then, and the
machine joins again without its former runs.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.client.base import Backend, OpenedSweep
from parallel_hpo.client.choose import choose_backend, make_backend
from parallel_hpo.client.own_servers import RemoteBackend
from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.config.section import BackendChoice, HpoSection
from parallel_hpo.config.tables import Failures
from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import ExitCode, ParallelHPOError, ServerAwayError, TargetError
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.pool_messages import NODE_TOKEN, Join, Joined, NewPool, machine_folder
from parallel_hpo.core.retry import retry
from parallel_hpo.core.types import Program, StopKind, SweepPath, Target
from parallel_hpo.processes.pool import ChildCalls
from parallel_hpo.processes.reaper import new_owner_id
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.machine import MachineSession
from parallel_hpo.session.membership import Relay, RemoteCount, elapsed_s, versions_here
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.setup import SessionSetup
from parallel_hpo.session.signals import Control, SignalsTaken
from parallel_hpo.session.waiting import StoppedError

RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class NodeTask:
    """The pool that a machine joins, and the machine's name there."""

    pool: NewPool
    pool_url: str
    key: str = field(repr=False)
    """Key to join with: the sweep's own, or the master key."""
    name: str
    """The machine's name for the user."""

    @property
    def path(self) -> SweepPath:
        """The sweep's path."""
        return SweepPath.parse(self.pool.path)


class NodeSetup(SessionSetup):
    """One epoch; `stack` cleans up."""

    def __init__(
        self,
        setting: LaunchSettings,
        stack: ExitStack,
        *,
        part: NodeTask,
        relay: Relay,
        wait_s: float,
        previous: int,
    ) -> None:
        """Keep the arguments; start nothing.

        Args:
            wait_s: timeout for an unreachable server while joining.
            previous: the machine's last epoch, whose processes have ended; 0: none.
        """
        super().__init__(setting, stack)
        self._part = part
        self._relay = relay
        self._wait_s = wait_s
        self._previous = previous
        self.membership: RemoteCount | None = None
        self.epoch = previous
        """The machine's latest epoch."""
        self.reason = "it is done"
        """Why the machine leaves."""

    def take_part(self) -> SweepResult:
        """Run what the pool grants, until the pool releases the machine or the user stops it.

        Raises:
            ConfigError: its software differs from the coordinator's, or its devices from the configuration.
            TargetError: `main` can't be loaded here; the pool knows why.
            PoolOverError: the sweep has ended.
            BackendError: the server can't be reached, or refuses.
        """
        try:
            return self._perform_part()
        except StoppedError:
            return self._nothing_done()

    def _perform_part(self) -> SweepResult:
        equipment = self._equip()
        joined, asked_at = self._join(equipment.workers)
        self.setting = replace(self.setting, machine=machine_folder(joined.name, joined.epoch))
        membership = self.stack.enter_context(self._membership(joined, asked_at))
        backend = self._reach(joined)
        surroundings = self._surround(equipment, keeps_login=backend.keeps_login)
        children = self._open_children(surroundings.environment)
        calls = ChildCalls(children, surroundings)
        self._expect_main(calls, joined.name)
        backend.use_for(self._part.path, calls.run)
        self.waits.sweep_is_open()
        self.setting.folder_of(self._part.path.sweep_id).mkdir(parents=True, exist_ok=True)
        known = self._part.pool
        sweep = OpenedSweep(self._part.path, known.url, known.configuration)
        there = self._prepared(sweep, backend, children, equipment, surroundings)
        result = MachineSession(there, membership.ledger, membership).perform()
        self.reason = result.stop_reason
        return result

    def _join(self, workers: int) -> tuple[Joined, float]:
        """Join, waiting for an unreachable server; return also the time of the request, by `elapsed_s`."""
        part = self._part
        client = PoolClient(part.pool_url, part.key, part.path.sweep_id)

        def ask() -> tuple[Joined, float]:
            asked_at = elapsed_s()
            return self.waits.call(lambda: client.join(self._request(workers))), asked_at

        return retry(
            ask,
            ServerAwayError,
            within_s=self._wait_s,
            every_s=RETRY_S,
            clock=elapsed_s,
            sleep=self.waits.sleep,
        )

    def _request(self, workers: int) -> Join:
        return Join(
            name=self._part.name,
            versions=versions_here(),
            workers=workers,
            mark=self.setting.owner_id,
            directory=str(self.section.directory.absolute()),
            previous=self._previous,
            deadline_s=self.setting.deadline_left_s(time.time()),
        )

    @contextmanager
    def _membership(self, joined: Joined, asked_at: float) -> Iterator[RemoteCount]:
        """Keep the lease within the block, and leave after it, when all processes started inside have
        ended."""
        part = self._part
        membership = self.membership = RemoteCount(
            PoolClient(part.pool_url, joined.key, part.path.sweep_id),
            joined.epoch,
            node_timeout_s=part.pool.node_timeout_s,
            joined_at=asked_at,
            control=self.setting.control,
            observer=self.setting.observer,
        )
        self.setting.observer(Message(f"this machine is {joined.name}, number {joined.epoch} of the sweep's"))
        self.epoch = joined.epoch
        self._relay.membership = membership
        membership.open()
        try:
            yield membership
        except ParallelHPOError as error:
            self.reason = str(error)
            raise
        finally:
            self._relay.membership = None
            membership.close(self.reason)

    def _reach(self, joined: Joined) -> Backend:
        """Return the sweep's own server, open."""
        section, environment = self.section, self.environment
        backend: Backend
        if self._part.pool.backend == BackendChoice.LOCAL:
            backend = RemoteBackend(self._part.pool_url, joined.key, section.directory, environment)
        else:
            chosen = choose_backend(BackendChoice.WANDB, environment)
            backend = make_backend(chosen, directory=section.directory, environment=environment)
        backend.open(self._on_backend_lost, self._on_backend_trouble)
        self.stack.callback(backend.close)
        return backend

    def _expect_main(self, calls: ChildCalls, name: str) -> None:
        try:
            self.waits.call(lambda: self._try_main(calls))
        except TargetError as error:
            raise TargetError(f"machine {name}: {error}") from None


AWAIT_SERVER_S: Final = 30.0
"""Minimum time in seconds to wait for the server when joining: both are often started together."""
LEASES: Final = 10
"""Time to try to join again after a disconnection, in leases."""
STDIN: Final = 0
ORPHANED: Final = "its standard input has ended: the process that started it has gone"


def take_part(
    part: NodeTask,
    section: HpoSection,
    main: PickledMain | Target | Program,
    *,
    observer: Observer,
    once: bool,
) -> SweepResult:
    """Run what the pool grants this machine; return the result of its last epoch.

    Args:
        once: don't join again, and stop when standard input, a pipe, ends. For cluster engines, which restart
            nodes themselves.

    Raises:
        What `NodeSetup.take_part` raises.
    """
    began, previous, lease_s = time.monotonic(), 0, part.pool.node_timeout_s
    wait_s = max(AWAIT_SERVER_S, lease_s)
    while True:
        with closing(Control()) as control, ExitStack() as stack:
            stack.enter_context(SignalsTaken(control))
            if once:
                stack.enter_context(_StdinWatch(control))
            relay = Relay(observer, part.pool.count)
            setting = LaunchSettings(
                section=section_of_node(section, has_coordinator=part.pool.has_coordinator),
                main=main,
                observer=relay,
                control=control,
                owner_id=new_owner_id(os.environ.get(NODE_TOKEN) if once else None),
                began=began,
                name=None if isinstance(main, PickledMain) else main,
            )
            setup = NodeSetup(setting, stack, part=part, relay=relay, wait_s=wait_s, previous=previous)
            result = setup.take_part()
            stack.close()
            if once or setup.membership is None or not setup.membership.joins_again:
                return result
        observer(Message("this machine joins the sweep again"))
        previous, wait_s = setup.epoch, LEASES * lease_s


def section_of_node(section: HpoSection, *, has_coordinator: bool) -> HpoSection:
    """Return a section without the keys that count over all machines, or that the coordinator handles.

    Without a coordinator, each machine keeps the deadline itself.
    """
    return section.model_copy(
        update={
            "count": None,
            "failures": Failures(max_initial=None),
            "sweep_timeout_s": None,
            "deadline": None if has_coordinator else section.deadline,
            "on_end": None,
            "notify": [],
            "machines": None,
        }
    )


class _StdinWatch:
    """Within the block, the end of standard input interrupts the sweep: the engine that started us has
    gone."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> None:
        if stat.S_ISFIFO(os.fstat(STDIN).st_mode):
            threading.Thread(target=self._wait, name="parallel_hpo-stdin", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True

    def _wait(self) -> None:
        while os.read(STDIN, 4096):
            pass
        with self._lock:
            if not self._over:
                self._control.put(StopAsked(StopKind.INTERRUPT, ORPHANED, ExitCode.RESUMABLE))
