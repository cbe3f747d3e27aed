"""Sets up a sweep on many machines: engine, address, server, a trial of `main`, sweep, ledger.

`run_on_cluster` runs such a sweep from a checked section and a `main` to its result. `create_sweep` only
creates a sweep and its pool on a server of ours, for machines to join:

parallel-hpo run CONFIG TARGET --create ─▶ sweep, pool ◀─ parallel-hpo join SWEEP, on any machine
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as NotInTime
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.client.base import LOOPBACK
from parallel_hpo.client.choose import choose_backend
from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.client.own_servers import LocalBackend, OwnServerBackend, RemoteBackend
from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.cluster.base import ClusterEngine, address_towards
from parallel_hpo.cluster.nodes import NodeManager, NodeReport
from parallel_hpo.cluster.session import NODES_STOP_IN_S, ClusterSession, PoolAddress, new_pool
from parallel_hpo.cluster.watcher import Answer, PoolSource
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core import keys
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Program, SweepPath, Target, sweep_id_of
from parallel_hpo.count.policy import Launch
from parallel_hpo.devices.library import no_library, opened
from parallel_hpo.devices.placing import SlotAssignment, SweepDevices
from parallel_hpo.pickling.main import name_of, pack_main
from parallel_hpo.processes.pool import ChildCalls
from parallel_hpo.processes.reaper import MARK
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import LEDGER
from parallel_hpo.session.resume import count_or_cap, facts_of, find_folder
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.setup import NOTHING, SessionSetup
from parallel_hpo.session.signals import Control, SignalsTaken
from parallel_hpo.session.sweep import PreparedSweep
from parallel_hpo.session.waiting import StoppedError

MakePoolClient = Callable[[str, str, str], PoolSource]
"""Return the client of a pool, given its server's address, a key, and the sweep's id."""
ELSEWHERE: Final = "192.0.2.1"
"""A reserved address (RFC 5737), reached by the default route."""
ADDRESS_LIMIT_S: Final = 10.0
"""Timeout for the engine to tell its address, in seconds."""


class ClusterSetup(SessionSetup):
    """Setup of one coordinator; closing `stack` ends all that it has started."""

    def __init__(
        self,
        setting: LaunchSettings,
        stack: ExitStack,
        *,
        environment: Mapping[str, str] | None,
        machines: Machines,
        make_engine: Callable[[], ClusterEngine] | None,
        make_pool_client: MakePoolClient,
    ) -> None:
        """`make_engine` is None if machines join by themselves."""
        super().__init__(setting, stack, environment)
        self._machines = machines
        self._make_engine = make_engine
        self._make_pool_client = make_pool_client
        self._reports: queue.SimpleQueue[NodeReport | Answer] = queue.SimpleQueue()

    def perform(self, resume: str | None) -> SweepResult:
        """Run the sweep, or the rest of its earlier count if `resume` names it."""
        try:
            nodes = self._open_nodes()
            self.host = self._find_host(nodes)
            ledger = self._open_copy(resume) if resume is not None else None
            there = self.open(facts_of(ledger, resume, many=True))
            self.waits.sweep_is_open()
            if ledger is None:
                folder = self.setting.folder_of(there.sweep.path.sweep_id)
                ledger = self.stack.enter_context(Ledger(folder / LEDGER))
            return self._session(there, nodes, ledger).perform()
        except StoppedError:  # before there was a pool
            return self._nothing_done()

    # --- what exists -----------------------------------------------------------------------

    def _open_copy(self, resume: str) -> Ledger | None:
        """Open the ledger of a resumed sweep; None if another machine has it."""
        directory = self.section.directory
        is_here = (directory / sweep_id_of(resume) / LEDGER).is_file()
        if not is_here and choose_backend(self.section.backend, self.environment).name != "local":
            return None
        return self.stack.enter_context(Ledger(find_folder(directory, resume) / LEDGER))

    def _equip(self) -> SweepDevices:
        return SweepDevices(SlotAssignment(1), self.stack.enter_context(opened(no_library)))

    # --- what is started -------------------------------------------------------------------

    def _open_nodes(self) -> NodeManager | None:
        if self._make_engine is None:
            return None
        most = None if self._machines.count == "auto" else self._machines.count
        nodes = NodeManager(self._make_engine, self._post, clock=self.setting.control.clock, most=most)
        opening = nodes.open()
        self.stack.callback(nodes.stop_within, NODES_STOP_IN_S)
        self.waits.call(opening.result)
        return nodes

    def _post(self, report: NodeReport) -> None:
        self._reports.put(report)
        self.setting.control.ring()

    def _find_host(self, nodes: NodeManager | None) -> str:
        """Return the address by which machines reach this one, from the engine or the route."""
        if nodes is not None:
            with suppress(BackendError, NotInTime):
                known = self.waits.call(partial(nodes.own_address().result, ADDRESS_LIMIT_S))
                if known:
                    return known
        return host_by_route()

    def _session(self, there: PreparedSweep, nodes: NodeManager | None, ledger: Ledger) -> ClusterSession:
        address = self._address(there)
        return ClusterSession(
            there,
            ledger,
            machines=self._machines,
            address=address,
            pool=self._make_pool_client(address.url, address.key, there.sweep.path.sweep_id),
            nodes=nodes,
            reports=self._reports,
        )

    def _address(self, there: PreparedSweep) -> PoolAddress:
        """Return the pool's address: the sweep's server, or a server of its own if that is W&B's."""
        backend = there.backend
        is_apart = not isinstance(backend, OwnServerBackend)
        server = backend if isinstance(backend, OwnServerBackend) else self._open_pool_server(there)
        if isinstance(server, LocalBackend) and self.host != LOOPBACK:
            self.setting.observer(Message(f"the sweep server listens on {self.host}, for the machines"))
        found = server.client_environment(keys.SUPERVISOR)
        login = self._login() if is_apart else {}
        return PoolAddress(found["WANDB_BASE_URL"], found["WANDB_API_KEY"], is_apart, login)

    def _open_pool_server(self, there: PreparedSweep) -> LocalBackend:
        environment = self.environment | {MARK: f"{self.setting.owner_id}_server"}
        server = LocalBackend(self.section.directory, environment, host=self.host)
        server.open(self._on_backend_lost, self._on_backend_trouble)
        self.stack.callback(server.close)
        self.waits.call(server.wait_until_up)
        server.use_for(there.sweep.path, ChildCalls(there.children, there.surroundings).run)
        return server

    def _login(self) -> dict[str, str]:
        """Return the variables by which nodes use this process's W&B login."""
        known = find_credentials(self.users_environment)
        key = {"WANDB_API_KEY": known.key} if known.key else {}
        return {"WANDB_BASE_URL": known.base_url, **key}


def host_by_route() -> str:
    """Return the address by which machines probably reach this one."""
    return address_towards(ELSEWHERE) or LOOPBACK


def run_on_cluster(
    section: HpoSection,
    main: Callable[[], object] | Target | Program,
    *,
    observer: Observer,
    control: Control,
    launch: Launch,
    machines: Machines,
    make_engine: Callable[[], ClusterEngine] | None,
    make_pool_client: MakePoolClient = PoolClient,
    environment: Mapping[str, str] | None = None,
) -> SweepResult:
    """Run a sweep on many machines and return its result; raises what `supervise` raises.

    `make_engine` connects to the cluster engine; None: machines join by `parallel-hpo join`.
    """
    if launch.share is not None:
        raise UsageError("--share is for launches on one machine each: with hpo.machines there are no shares")
    with ExitStack() as stack:
        packed = pack_main(main, stack, travels=True)
        setting = LaunchSettings(
            section=section,
            main=packed,
            observer=observer,
            control=control,
            resumes=launch.resume is not None,
            keep_configuration=launch.keep_configuration,
            name=name_of(main),
        )
        stack.enter_context(SignalsTaken(control))
        setup = ClusterSetup(
            setting,
            stack,
            environment=environment,
            machines=machines,
            make_engine=make_engine,
            make_pool_client=make_pool_client,
        )
        return setup.perform(launch.resume)


def create_sweep(
    section: HpoSection,
    main: Target | Program | None,
    *,
    observer: Observer,
) -> SweepPath:
    """Create the sweep and its pool; raises what `supervise` raises.

    `main` is None if each machine has its own.
    """
    with closing(Control()) as control, ExitStack() as stack:
        setting = LaunchSettings(
            section=section,
            main=NOTHING,
            observer=observer,
            control=control,
        )
        there = SessionSetup(setting, stack).open({})
        if isinstance(there.backend, RemoteBackend):
            pool = new_pool(
                replace(setting, main=main or NOTHING),
                there.sweep,
                count_or_cap(section.count, there.sweep.run_cap, before=0),
                is_apart=False,
                node_timeout_s=(section.machines or Machines()).node_timeout_s,
                has_coordinator=False,
            )
            there.backend.pool_of(there.sweep.path).create(pool)
        return there.sweep.path
