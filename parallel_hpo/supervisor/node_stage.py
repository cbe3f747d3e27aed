"""One epoch of a machine in a sweep's pool: it joins, performs what it is granted, and leaves.

    devices ─▶ join: the lease is kept from here on ─▶ fork server ─▶ try `main` ─▶ OpenSweep ─▶ leave

The ledger is a cache of this epoch's: what is counted is in the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.backend.base import Backend, OpenedSweep
from parallel_hpo.backend.choose import choose_backend, make_backend
from parallel_hpo.backend.pool import PoolDoor
from parallel_hpo.backend.remote import RemoteBackend
from parallel_hpo.chronicle import LEDGER
from parallel_hpo.config.hpo import BackendChoice
from parallel_hpo.errors import ParallelHPOError, ServerAwayError, TargetError
from parallel_hpo.notices import Message
from parallel_hpo.plan import Share
from parallel_hpo.protocol.pool import Join, Joined, NewPool, machine_folder
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.control.patience import StoppedError
from parallel_hpo.supervisor.launch import Stage
from parallel_hpo.supervisor.membership.membership import Membership, elapsed_s
from parallel_hpo.supervisor.membership.telling import Relay, versions_here
from parallel_hpo.supervisor.open_sweep import OpenSweep
from parallel_hpo.supervisor.processes.child_calls import ChildCalls
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import SweepId, SweepPath

RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class NodePart:
    """What a machine takes part in, and as whom."""

    pool: NewPool
    pool_url: str
    key: str = field(repr=False)
    """By which it joins: the sweep's own, or the master key."""
    name: str
    """What people call the machine."""
    share: Share | None = None
    """The share of the count whose runs alone it performs; None: whatever is left."""
    share_count: int = 0
    """How many runs that share has."""

    @property
    def count(self) -> int | None:
        """How many runs this is a part of; None: no limit."""
        return self.pool.count if self.share is None else self.share_count

    @property
    def path(self) -> SweepPath:
        """The sweep's."""
        entity, project, sweep_id = self.pool.path.split("/")
        return SweepPath(entity, project, SweepId(sweep_id))


class NodeStage(Stage):
    """One epoch; what it starts, `stack` ends."""

    def __init__(
        self,
        setting: Setting,
        environment: Mapping[str, str] | None,
        stack: ExitStack,
        *,
        part: NodePart,
        relay: Relay,
        wait_s: float,
        previous: int,
    ) -> None:
        """`wait_s`: for so long a server that is away is waited for, before there is an epoch.

        `previous` is the machine's last epoch, of which nothing runs any more; 0: it had none.
        """
        super().__init__(setting, environment, stack)
        self._part = part
        self._relay = relay
        self._wait_s = wait_s
        self._previous = previous
        self.membership: Membership | None = None
        self.epoch = previous
        """The machine's last one."""
        self.reason = "it is done"
        """Why the machine leaves."""

    def take_part(self) -> SweepResult:
        """Perform what is granted, until the pool lets the machine go or somebody stops it.

        Raises:
            ConfigError: its software is another than the head's, or its devices are not as configured.
            TargetError: `main` can't be loaded here; the pool has been told why.
            PoolOverError: the sweep is over.
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
        self.patience.sweep_is_open()
        folder = self.setting.folder_of(self._part.path.sweep_id)
        ledger = self.stack.enter_context(Ledger(folder / LEDGER))
        known = self._part.pool
        result = OpenSweep(
            self.setting,
            backend,
            children,
            OpenedSweep(self._part.path, known.url, known.configuration),
            ledger,
            surroundings,
            equipment,
            self.patience,
            lambda: Commands(self.users_environment, self.folder),
            membership,
        ).perform()
        self.reason = result.stop_reason
        return result

    def _join(self, workers: int) -> tuple[Joined, float]:
        """Join, waiting for a server that is away; return also when that was asked for, on `elapsed_s`."""
        part = self._part
        door = PoolDoor(part.pool_url, part.key, part.path.sweep_id)
        directory = str(self.section.directory.absolute())
        wants = Join(
            *(part.name, versions_here(), workers, self.setting.mark, directory, self._previous),
            *(str(part.share or ""), part.share_count),
        )
        until = elapsed_s() + self._wait_s
        while True:
            asked_at = elapsed_s()
            try:
                return self.patience.call(lambda: door.join(wants)), asked_at
            except ServerAwayError:
                if elapsed_s() >= until:
                    raise
                self.patience.sleep(RETRY_S)

    @contextmanager
    def _membership(self, joined: Joined, asked_at: float) -> Iterator[Membership]:
        """Keep the lease within the block, and leave after it: what was started inside is gone by then."""
        part = self._part
        membership = self.membership = Membership(
            PoolDoor(part.pool_url, joined.key, part.path.sweep_id),
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
            self.patience.call(lambda: self._try_main(calls))
        except TargetError as error:
            raise TargetError(f"machine {name}: {error}") from None
